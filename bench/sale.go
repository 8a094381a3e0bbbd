package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"io"

	"uncharge/journal"
)

// Every contender records the same sale: a draft with a reversal image when it is
// begun, the host's answer when it is completed.

// imageBytes is about what a reversal needs of its request.
const imageBytes = 200

func draft(caller int, stan uint32) journal.Draft {
	image := make([]byte, imageBytes)
	for i := range image {
		image[i] = byte(int(stan) + i)
	}
	return journal.Draft{
		Lane: lane(caller), STAN: stan, Type: "sale", MTI: "0200",
		Amount: journal.Money{Minor: int64(1000 + stan%9000), Currency: "USD", Exponent: 2},
		Last4:  fmt.Sprintf("%04d", stan%10000), Image: image,
	}
}

// lane is each caller's own: a lane has one online transaction at a time (L9).
func lane(caller int) journal.Lane {
	return journal.Lane{Terminal: fmt.Sprintf("T%07d", caller), Merchant: "MERCHANT0000001"}
}

// answer is an approval. Hosts make reference numbers of the day and a number
// that grows.
func answer(caller int, stan uint32) journal.Answer {
	return journal.Answer{
		Code: "00", AuthCode: fmt.Sprintf("%06d", stan), RRN: fmt.Sprintf("6%05d%06d", caller, stan),
	}
}

// deviceKey is the key of every run: what it protects is made up.
func deviceKey() journal.Secret {
	key := make(journal.Secret, journal.KeyBytes)
	for i := range key {
		key[i] = byte(i)
	}
	return key
}

// envelope seals images for the contenders that have no sealing of their own, so
// that nobody stores less than the journal does.
type envelope struct{ aead cipher.AEAD }

func newEnvelope() (envelope, error) {
	block, err := aes.NewCipher(deviceKey())
	if err != nil {
		return envelope{}, err
	}
	aead, err := cipher.NewGCM(block)
	return envelope{aead}, err
}

func (e envelope) seal(image []byte) ([]byte, error) {
	nonce := make([]byte, e.aead.NonceSize(), e.aead.NonceSize()+len(image)+e.aead.Overhead())
	if _, err := io.ReadFull(rand.Reader, nonce); err != nil {
		return nil, err
	}
	return e.aead.Seal(nonce, nonce, image, nil), nil
}
