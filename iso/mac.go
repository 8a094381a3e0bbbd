package iso

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"

	"github.com/emmansun/gmsm/sm4"
)

// What can be wrong with the MAC of an answer. Each is a result of its own: none
// of them is ErrUnmatched (a good message that answers another request) or
// ErrUndecodable (no message at all), and none says anything about the money
// (L5): the request stays in doubt.
var (
	// ErrNoMAC: the answer carries no MAC where the profile wants one.
	ErrNoMAC = errors.New("answer carries no MAC")
	// ErrWrongMAC: the answer carries a MAC that was not made from its bytes
	// under our key. UnionPay reverses an approval like this with the reason A0.
	ErrWrongMAC = errors.New("MAC does not fit")
	// ErrNoKey: no key is loaded, so a MAC can be neither made nor checked. The
	// cure is a sign-on.
	ErrNoKey = errors.New("no key is loaded")
)

// MACAlgorithm names how a MAC is computed; the profile chooses one.
type MACAlgorithm string

// The algorithms. All of them pad the last block with zeros, and with nothing
// when it is full; AES-CMAC pads in its own way.
const (
	// MACUnionPayECB folds the data into 8 bytes by exclusive or, writes them as
	// 16 hex characters and chains those two blocks (PROTOCOL H). DES under a
	// key of 8 bytes, triple DES under one of 16.
	MACUnionPayECB MACAlgorithm = "unionpay-ecb"
	// MACX99 is ANSI X9.9: DES CBC-MAC, ISO/IEC 9797-1 algorithm 1, padding 1.
	// The key has 8 bytes, or 16 with equal halves.
	MACX99 MACAlgorithm = "x9.9"
	// MACX919 is ANSI X9.19, the retail MAC: ISO/IEC 9797-1 algorithm 3, padding
	// 1. The key has 16 bytes; one of 8 stands for two equal halves.
	MACX919 MACAlgorithm = "x9.19"
	// MACAESCMAC is AES-CMAC: RFC 4493, NIST SP 800-38B. Key of 16, 24 or 32 bytes.
	MACAESCMAC MACAlgorithm = "aes-cmac"
	// MACSM4CBC is the CBC-MAC of SM4 (GB/T 32907; GB/T 15821.1 scheme 1), padded
	// with zeros. Key of 16 bytes.
	MACSM4CBC MACAlgorithm = "sm4-cbc-mac"
)

// MACAlgorithms lists the algorithms there are.
func MACAlgorithms() []MACAlgorithm {
	return []MACAlgorithm{MACUnionPayECB, MACX99, MACX919, MACAESCMAC, MACSM4CBC}
}

// Authenticator makes MACs under the terminal's current MAC key. A PIN pad
// implements it in hardware; SoftKeys does in software. It must be safe for
// concurrent use.
type Authenticator interface {
	// MAC returns the whole MAC of data: 8 bytes for the DES family, 16 for AES
	// and SM4. It neither keeps nor changes data. The error wraps ErrNoKey when
	// no key is loaded, and ErrInvalid when the key is not one for algorithm.
	MAC(ctx context.Context, algorithm MACAlgorithm, data []byte) ([]byte, error)
}

// ComputeMAC returns the whole MAC of data under a plain key, given as hex text:
// 8 bytes for the DES family, 16 for AES and SM4. Errors wrap ErrNoKey when key
// is empty and ErrInvalid when it does not suit the algorithm; they hold nothing
// of the key or the data. It sets the cipher up at each call: SoftKeys is faster.
func ComputeMAC(algorithm MACAlgorithm, key Secret, data []byte) ([]byte, error) {
	clearKey, err := keyBytes("MAC key", key)
	if err != nil {
		return nil, err
	}
	defer clear(clearKey)
	mac, err := newMAC(algorithm, clearKey)
	if err != nil {
		return nil, err
	}
	return mac(data), nil
}

// macFunc computes MACs under one key. It keeps no state between calls, so many
// goroutines may share it.
type macFunc func(data []byte) []byte

// newMAC sets up an algorithm under a key, which may be cleared afterwards.
func newMAC(algorithm MACAlgorithm, key []byte) (macFunc, error) {
	switch algorithm {
	case MACUnionPayECB:
		b, err := desCipher(key)
		return func(data []byte) []byte { return unionPayECB(b, data) }, err
	case MACX99:
		left, right := halves(key)
		if subtle.ConstantTimeCompare(left, right) != 1 {
			return nil, fmt.Errorf("%w: %s takes a single key, this is a double one", ErrInvalid, algorithm)
		}
		b, err := desCipher(left)
		return func(data []byte) []byte { return cbcMAC(b, data) }, err
	case MACX919:
		return newX919(key)
	case MACAESCMAC:
		b, err := aes.NewCipher(key)
		if err != nil {
			return nil, keySize(key)
		}
		return newCMAC(b), nil
	case MACSM4CBC:
		b, err := sm4.NewCipher(key)
		if err != nil {
			return nil, keySize(key)
		}
		return func(data []byte) []byte { return cbcMAC(b, data) }, nil
	}
	return nil, fmt.Errorf("%w: there is no such MAC algorithm", ErrInvalid)
}

// halves are the two DES keys of a double-length key. A single key is both.
func halves(key []byte) (left, right []byte) {
	if len(key) == 2*des.BlockSize {
		return key[:des.BlockSize], key[des.BlockSize:]
	}
	return key, key
}

// desCipher is DES for a key of 8 bytes, and triple DES, K1 K2 K1, for one of 16.
func desCipher(key []byte) (cipher.Block, error) {
	var b cipher.Block
	var err error
	switch len(key) {
	case 8:
		b, err = des.NewCipher(key)
	case 16:
		triple := slices.Concat(key, key[:8])
		defer clear(triple)
		b, err = des.NewTripleDESCipher(triple)
	default:
		return nil, keySize(key)
	}
	if err != nil {
		return nil, errors.New("DES cannot be used in this program") // a FIPS 140 build forbids it
	}
	return b, nil
}

func keySize(key []byte) error {
	return fmt.Errorf("%w: a key of %d bytes does not suit the algorithm", ErrInvalid, len(key))
}

// unionPayECB: padding with zeros changes no exclusive or, so the short last
// block is folded in as it is (PROTOCOL H).
func unionPayECB(b cipher.Block, data []byte) []byte {
	const digits = "0123456789ABCDEF" // the hex text is upper case, and counts as text
	var folded [des.BlockSize]byte
	for len(data) > 0 {
		data = data[subtle.XORBytes(folded[:], folded[:], data):]
	}
	var text [2 * des.BlockSize]byte
	for i, c := range folded {
		text[2*i], text[2*i+1] = digits[c>>4], digits[c&15]
	}
	mac := make([]byte, des.BlockSize)
	b.Encrypt(mac, text[:des.BlockSize])
	subtle.XORBytes(mac, mac, text[des.BlockSize:])
	b.Encrypt(mac, mac)
	return mac
}

// cbcMAC is ISO/IEC 9797-1 algorithm 1 with padding 1: a short block is filled
// up with zeros, and no data at all is one block of zeros.
func cbcMAC(b cipher.Block, data []byte) []byte {
	mac := make([]byte, b.BlockSize())
	for first := true; first || len(data) > 0; first = false {
		n := subtle.XORBytes(mac, mac, data) // at most a block: the shorter one counts
		b.Encrypt(mac, mac)
		data = data[n:]
	}
	return mac
}

func newX919(key []byte) (macFunc, error) {
	one, two := halves(key)
	left, err := desCipher(one)
	if err != nil {
		return nil, err
	}
	right, err := desCipher(two)
	if err != nil {
		return nil, err
	}
	return func(data []byte) []byte {
		mac := cbcMAC(left, data)
		right.Decrypt(mac, mac)
		left.Encrypt(mac, mac)
		return mac
	}, nil
}

// newCMAC is ours because the one of gmsm v0.41.1 gives a wrong MAC when it is
// used twice: it takes what the last message left in its buffer for padding.
func newCMAC(b cipher.Block) macFunc {
	var whole, short [aes.BlockSize]byte // the subkeys K1 and K2 of RFC 4493
	b.Encrypt(whole[:], whole[:])
	double(&whole)
	short = whole
	double(&short)
	return func(data []byte) []byte {
		mac := make([]byte, aes.BlockSize)
		for len(data) > aes.BlockSize {
			subtle.XORBytes(mac, mac, data)
			b.Encrypt(mac, mac)
			data = data[aes.BlockSize:]
		}
		last := &whole
		if n := subtle.XORBytes(mac, mac, data); n < aes.BlockSize {
			mac[n] ^= 0x80
			last = &short
		}
		subtle.XORBytes(mac, mac, last[:])
		b.Encrypt(mac, mac)
		return mac
	}
}

// double multiplies by x in GF(2^128), without a branch on the key.
func double(b *[aes.BlockSize]byte) {
	carry := byte(0)
	for i := len(b) - 1; i >= 0; i-- {
		b[i], carry = b[i]<<1|carry, b[i]>>7
	}
	b[len(b)-1] ^= carry * 0x87
}
