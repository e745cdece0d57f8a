package once

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
)

// Answer is what a request was answered with.
type Answer struct {
	r           Request
	fingerprint []byte
	sealed      []byte
}

// Open returns the answer. It returns ErrOther if what came with the key this time has another fingerprint.
func (a *Answer) Open(fingerprint []byte) ([]byte, error) {
	if !bytes.Equal(fingerprint, a.fingerprint) {
		return nil, ErrOther
	}
	box, err := a.r.box()
	if err != nil {
		return nil, err
	}
	answer, err := box.Open(nil, nil, a.sealed, nil)
	if err != nil {
		return nil, fmt.Errorf("open a kept answer: %w", err)
	}
	return answer, nil
}

func (r Request) seal(answer []byte) ([]byte, error) {
	box, err := r.box()
	if err != nil {
		return nil, err
	}
	return box.Seal(nil, nil, answer, nil), nil //nolint:gosec // This box takes a random nonce by itself.
}

// box opens with the API key alone, and is another one for each request.
func (r Request) box() (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(r.Secret.Reveal()), nil, fmt.Sprintf("countersign answer %q %q", r.Route, r.Key), 32)
	if err != nil {
		return nil, fmt.Errorf("seal an answer: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("seal an answer: %w", err)
	}
	box, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("seal an answer: %w", err)
	}
	return box, nil
}
