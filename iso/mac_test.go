package iso

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/emmansun/gmsm/sm4"
)

// macVector is one entry of testdata/wire/mac.json: a published MAC and where it
// was published.
type macVector struct {
	ID, Algorithm, Key, Data, MAC, Published, Source string
	ASCII                                            string `json:"data_ascii"`
	DE64                                             string `json:"de64_bytes"`
}

func macVectors(t testing.TB) []macVector {
	t.Helper()
	file, err := os.ReadFile("../testdata/wire/mac.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []macVector
	if err := json.Unmarshal(file, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

func (v macVector) data(t testing.TB) []byte { return append(unhex(t, v.Data), v.ASCII...) }

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPublishedMACs(t *testing.T) {
	seen := map[MACAlgorithm]int{}
	for _, v := range macVectors(t) {
		t.Run(v.ID, func(t *testing.T) {
			if v.Source == "" || v.Published == "" {
				t.Error("a vector without a source")
			}
			algorithm := MACAlgorithm(v.Algorithm)
			seen[algorithm]++
			got, err := ComputeMAC(algorithm, NewSecret(v.Key), v.data(t))
			if err != nil {
				t.Fatal(err)
			}
			text := fmt.Sprintf("%X", got)
			if text != v.MAC || !strings.HasPrefix(text, v.Published) {
				t.Errorf("MAC %s, want %s, of which %s is published", text, v.MAC, v.Published)
			}
			if v.DE64 != "" && fmt.Sprintf("%X", text[:8]) != v.DE64 {
				t.Errorf("DE 64 would be %X, on the wire it was %s", text[:8], v.DE64)
			}
			var keys SoftKeys
			if err := keys.SetMACKey(NewSecret(strings.ToLower(v.Key))); err != nil {
				t.Fatal(err)
			}
			for range 2 { // nothing is left over from the first
				again, err := keys.MAC(context.Background(), algorithm, v.data(t))
				if err != nil || !bytes.Equal(again, got) {
					t.Errorf("soft keys say %X (%v), want %X", again, err, got)
				}
			}
		})
	}
	for _, algorithm := range MACAlgorithms() {
		if seen[algorithm] == 0 {
			t.Errorf("no published vector for %s", algorithm)
		}
	}
}

// GB/T 32907-2016 A.2: SM4 a million times over the same block. A CBC-MAC of that
// block and 999 999 blocks of zeros is just that.
func TestSM4AMillionTimes(t *testing.T) {
	if testing.Short() {
		t.Skip("a million blocks")
	}
	const key = "0123456789ABCDEFFEDCBA9876543210"
	data := make([]byte, 16*1_000_000)
	copy(data, unhex(t, key))
	mac, err := ComputeMAC(MACSM4CBC, NewSecret(key), data)
	if got := fmt.Sprintf("%X", mac); err != nil || got != "595298C7C6FD271F0402F804C33D3F66" {
		t.Errorf("%s, %v", got, err)
	}
}

// oracle computes the same MACs by other means: padding written out, the CBC of
// the standard library, numbers instead of shifts.
func oracle(t testing.TB, algorithm MACAlgorithm, key, data []byte) []byte {
	t.Helper()
	block := func(b cipher.Block, err error) cipher.Block {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	single := func(k []byte) cipher.Block { return block(des.NewCipher(k)) }
	triple := func(k []byte) cipher.Block {
		return block(des.NewTripleDESCipher(bytes.Join([][]byte{k[:8], k[len(k)-8:], k[:8]}, nil)))
	}
	cbc := func(b cipher.Block, data []byte) []byte {
		size := b.BlockSize()
		padded := append([]byte{}, data...)
		for len(padded) == 0 || len(padded)%size != 0 {
			padded = append(padded, 0)
		}
		cipher.NewCBCEncrypter(b, make([]byte, size)).CryptBlocks(padded, padded)
		return padded[len(padded)-size:]
	}
	switch algorithm {
	case MACUnionPayECB:
		var sum [8]byte
		for i, c := range data {
			sum[i%8] ^= c
		}
		return cbc(triple(key), []byte(fmt.Sprintf("%02X", sum[:]))) // two blocks, chained from zero
	case MACX99:
		return cbc(single(key[:8]), data)
	case MACX919:
		mac := cbc(single(key[:8]), data)
		single(key[len(key)-8:]).Decrypt(mac, mac)
		single(key[:8]).Encrypt(mac, mac)
		return mac
	case MACSM4CBC:
		return cbc(block(sm4.NewCipher(key)), data)
	}
	return oracleCMAC(block(aes.NewCipher(key)), data)
}

func oracleCMAC(b cipher.Block, data []byte) []byte {
	zero := make([]byte, 16)
	b.Encrypt(zero, zero)
	subkey := new(big.Int).SetBytes(zero)
	timesX := func() {
		subkey.Lsh(subkey, 1)
		if subkey.Bit(128) == 1 {
			subkey.SetBit(subkey, 128, 0).Xor(subkey, big.NewInt(0x87))
		}
	}
	timesX()
	padded := append([]byte{}, data...)
	if len(data) == 0 || len(data)%16 != 0 {
		timesX()
		padded = append(padded, 0x80)
		for len(padded)%16 != 0 {
			padded = append(padded, 0)
		}
	}
	last := padded[len(padded)-16:]
	new(big.Int).Xor(new(big.Int).SetBytes(last), subkey).FillBytes(last)
	cipher.NewCBCEncrypter(b, make([]byte, 16)).CryptBlocks(padded, padded)
	return padded[len(padded)-16:]
}

// macKeySizes is which key lengths, in bytes, each algorithm takes.
var macKeySizes = map[MACAlgorithm][]int{
	MACUnionPayECB: {8, 16},
	MACX99:         {8},
	MACX919:        {8, 16},
	MACAESCMAC:     {16, 24, 32},
	MACSM4CBC:      {16},
}

func TestMACAgainstOracle(t *testing.T) {
	random := rand.NewChaCha8([32]byte{'m', 'a', 'c'})
	lengths := []int{0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 999}
	for _, algorithm := range MACAlgorithms() {
		for _, size := range macKeySizes[algorithm] {
			for _, n := range lengths {
				key, room := make([]byte, size), make([]byte, n+32)
				_, _ = random.Read(key)
				_, _ = random.Read(room)
				before := bytes.Clone(room)
				got, err := ComputeMAC(algorithm, NewSecret(hex.EncodeToString(key)), room[:n])
				if want := oracle(t, algorithm, key, room[:n]); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s, key of %d bytes, %d bytes of data: %X (%v), want %X", algorithm, size, n, got, err, want)
				}
				if !bytes.Equal(room, before) { // behind the data stands the rest of a message
					t.Errorf("%s, %d bytes of data: the caller's memory was written to", algorithm, n)
				}
			}
		}
	}
}

func TestMACLength(t *testing.T) {
	for algorithm, want := range map[MACAlgorithm]int{MACUnionPayECB: 8, MACX99: 8, MACX919: 8, MACAESCMAC: 16, MACSM4CBC: 16} {
		key := NewSecret(strings.Repeat("5A", macKeySizes[algorithm][0]))
		if mac, err := ComputeMAC(algorithm, key, nil); err != nil || len(mac) != want {
			t.Errorf("%s: %d bytes (%v), want %d", algorithm, len(mac), err, want)
		}
	}
}

// A double key of equal halves is a single key, and X9.19 under it is X9.9.
func TestEqualHalvesAreASingleKey(t *testing.T) {
	const half = "0123456789ABCDEF"
	data := []byte("a message of some length")
	mac := func(algorithm MACAlgorithm, key string) string {
		t.Helper()
		b, err := ComputeMAC(algorithm, NewSecret(key), data)
		if err != nil {
			t.Fatal(algorithm, err)
		}
		return fmt.Sprintf("%X", b)
	}
	for _, algorithm := range []MACAlgorithm{MACUnionPayECB, MACX99, MACX919} {
		if single, twice := mac(algorithm, half), mac(algorithm, half+half); single != twice {
			t.Errorf("%s: %s under a single key, %s under it twice", algorithm, single, twice)
		}
	}
	if x99, x919 := mac(MACX99, half), mac(MACX919, half+half); x99 != x919 {
		t.Errorf("X9.19 %s, X9.9 %s", x919, x99)
	}
	if mac(MACX919, half+"FEDCBA9876543210") == mac(MACX99, half) {
		t.Error("X9.19 leaves the second half out")
	}
	if mac(MACUnionPayECB, half+"FEDCBA9876543210") == mac(MACUnionPayECB, half) {
		t.Error("UnionPay ECB leaves the second half out")
	}
}

func TestMACKeyErrors(t *testing.T) {
	const secret = "1122334455667788"
	double := secret + "8877665544332211"
	for _, c := range []struct {
		name      string
		algorithm MACAlgorithm
		key       string
		want      error
	}{
		{"no key", MACX99, "", ErrNoKey},
		{"not hex", MACX99, "112233445566778G", ErrInvalid},
		{"half a byte", MACX99, "112233445566778", ErrInvalid},
		{"too short", MACUnionPayECB, "11223344556677", ErrInvalid},
		{"between", MACUnionPayECB, secret + "8877", ErrInvalid},
		{"triple", MACUnionPayECB, double + secret, ErrInvalid},
		{"triple for retail", MACX919, double + secret, ErrInvalid},
		{"double for X9.9", MACX99, double, ErrInvalid},
		{"DES key for AES", MACAESCMAC, secret, ErrInvalid},
		{"DES key for SM4", MACSM4CBC, secret, ErrInvalid},
		{"AES-256 key for SM4", MACSM4CBC, double + double, ErrInvalid},
		{"far too long", MACAESCMAC, strings.Repeat(double, 1000), ErrInvalid},
		{"no such algorithm", "rot13", double, ErrInvalid},
		{"no algorithm", "", double, ErrInvalid},
	} {
		mac, err := ComputeMAC(c.algorithm, NewSecret(c.key), []byte("data"))
		if mac != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
			continue
		}
		for _, part := range []string{secret[:8], "8877", "'G'", "U+0047", "rot13"} {
			if strings.Contains(err.Error(), part) {
				t.Errorf("%s: the error repeats its argument", c.name)
			}
		}
	}
}

// Each outcome has a name of its own: none of them passes for another.
func TestMACResultsAreDistinct(t *testing.T) {
	all := []error{ErrNoMAC, ErrWrongMAC, ErrNoKey, ErrKeyCheck, ErrUnmatched, ErrUndecodable, ErrInvalid}
	for i, a := range all {
		for j, b := range all {
			if errors.Is(fmt.Errorf("wrapped: %w", a), b) != (i == j) || (a.Error() == b.Error()) != (i == j) {
				t.Errorf("%q and %q are not told apart", a, b)
			}
		}
	}
}

var macSink []byte

func BenchmarkMAC(b *testing.B) {
	data := bytes.Repeat([]byte("0200 30200480"), 20)[:200]
	for _, c := range []struct {
		algorithm MACAlgorithm
		bytes     int
	}{{MACUnionPayECB, 8}, {MACUnionPayECB, 16}, {MACX99, 8}, {MACX919, 16}, {MACAESCMAC, 16}, {MACSM4CBC, 16}} {
		key := NewSecret("0123456789ABCDEFFEDCBA9876543210"[:2*c.bytes])
		b.Run(fmt.Sprintf("%s/%d", c.algorithm, c.bytes), func(b *testing.B) {
			var keys SoftKeys
			if err := keys.SetMACKey(key); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				macSink, _ = keys.MAC(context.Background(), c.algorithm, data)
			}
		})
		b.Run(fmt.Sprintf("%s/%d/cold", c.algorithm, c.bytes), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				macSink, _ = ComputeMAC(c.algorithm, key, data)
			}
		})
	}
}
