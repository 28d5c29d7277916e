package hub

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/matrix-mimi/bridge/mimiside/content"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

const reportRoom, accusedURI wire.IdentifierURI = "mimi://a.example/r/r", "mimi://b.example/u/bob"

// framed is the dictionary of a room whose messages are framed.
var framed = mls.AppDataDictionary{}.Set(mls.ComponentContentMediaTypes, mls.MediaTypeList{{Type: content.TypeMIMI}}.Marshal())

// proof is a message of bob with its frank, and who can prove it.
func proof(t testing.TB, frame bool) (*Prover, *wire.AbusiveMessage) {
	t.Helper()
	return proofOf(t, frame, accusedURI, reportRoom)
}

// proofOf is proof of a message whose content names a sender and a room; it was franked for those of proof.
func proofOf(t testing.TB, frame bool, sender, room wire.IdentifierURI) (*Prover, *wire.AbusiveMessage) {
	t.Helper()
	key, err := mls.GenerateSignatureKey(rand.Reader, mls.SuiteX25519AES128Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	m := &content.Message{Salt: content.Salt{1, 2, 3}, Extensions: content.Extensions{},
		Body: content.Part{Disposition: content.Render, Body: content.SinglePart{ContentType: content.TypePlain, Content: []byte("newt")}}}
	m.Extensions.SetNames(string(sender), string(room))
	octets, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	data := octets
	if frame {
		data = mls.FrameApplicationData(framed, mls.MediaType{}, octets)
	}
	secret := mls.Secret(bytes.Repeat([]byte{7}, 32))
	c := wire.FrankingContext{SenderURI: accusedURI, RoomURI: reportRoom, AcceptedTimestamp: 9}
	frank, err := wire.NewFrank(secret, key, wire.NewFrankingTag(m.Salt[:], data), c)
	if err != nil {
		t.Fatal(err)
	}
	old := mls.Secret(bytes.Repeat([]byte{8}, 32))
	p := &Prover{Secrets: []mls.Secret{old, secret}, Keys: map[mls.Suite]*mls.SignatureKey{key.Suite(): key}}
	return p, &wire.AbusiveMessage{Content: data, Frank: *frank, AcceptedTimestamp: 9}
}

// A message is proven in the form that the tag is of, with framing and without, and by a key that is not the newest; nothing
// else is.
func TestProve(t *testing.T) {
	for _, frame := range []bool{true, false} {
		dict := mls.AppDataDictionary{}
		if frame {
			dict = framed
		}
		p, m := proof(t, frame)
		e, err := p.Prove(dict, reportRoom, accusedURI, m)
		if err != nil || e.AcceptedMS != 9 || e.Message == nil || e.ID.IsZero() {
			t.Fatalf("framed %v: %+v, %v", frame, e, err)
		}
		if frame { // reported without its framing, as the draft's words allow
			_, bare, err := mls.UnframeApplicationData(framed, m.Content)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.Prove(dict, reportRoom, accusedURI, &wire.AbusiveMessage{Content: bare, Frank: m.Frank, AcceptedTimestamp: 9}); err != nil {
				t.Errorf("without framing: %v", err)
			}
		}
		for name, try := range map[string]func() (*Evidence, error){
			"other room": func() (*Evidence, error) { return p.Prove(dict, reportRoom+"2", accusedURI, m) },
			"content of another room": func() (*Evidence, error) {
				q, m := proofOf(t, frame, accusedURI, reportRoom+"2")
				return q.Prove(dict, reportRoom, accusedURI, m)
			},
			"content of another sender": func() (*Evidence, error) {
				q, m := proofOf(t, frame, "mimi://b.example/u/eve", reportRoom)
				return q.Prove(dict, reportRoom, accusedURI, m)
			},
			"other accused": func() (*Evidence, error) { return p.Prove(dict, reportRoom, "mimi://b.example/u/eve", m) },
			"other time": func() (*Evidence, error) {
				return p.Prove(dict, reportRoom, accusedURI, &wire.AbusiveMessage{Content: m.Content, Frank: m.Frank, AcceptedTimestamp: 8})
			},
			"other hub": func() (*Evidence, error) {
				q, _ := proof(t, frame)
				return q.Prove(dict, reportRoom, accusedURI, m)
			},
			"no key":  func() (*Evidence, error) { return (&Prover{Secrets: p.Secrets}).Prove(dict, reportRoom, accusedURI, m) },
			"nothing": func() (*Evidence, error) { return p.Prove(dict, reportRoom, accusedURI, &wire.AbusiveMessage{}) },
		} {
			if e, err := try(); !errors.Is(err, ErrNotProven) || e != nil {
				t.Errorf("framed %v, %s: %v", frame, name, err)
			}
		}
	}
}

// Whatever else is reported as the content, it is not proven.
func FuzzProve(f *testing.F) {
	p, m := proof(f, true)
	f.Add(m.Content)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		_, bare, err := mls.UnframeApplicationData(framed, m.Content)
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.Prove(framed, reportRoom, accusedURI, &wire.AbusiveMessage{Content: data, Frank: m.Frank, AcceptedTimestamp: 9})
		if proven := err == nil; proven != (bytes.Equal(data, m.Content) || bytes.Equal(data, bare)) {
			t.Errorf("%x: %v", data, err)
		}
	})
}
