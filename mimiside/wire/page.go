package wire

import (
	"github.com/matrix-mimi/bridge/internal/tlspl"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// ComponentPage carries a Page in the id_request_extensions and id_response_extensions of an identifier query
// (docs/extensions.md, pages of a search). It is of the range for private use, so that others skip it.
const ComponentPage mls.ComponentID = 0xFA11

// maxCursor is the longest cursor in octets.
const maxCursor = 512

// Page asks for a part of what a query finds, and says in the answer where the next part begins:
//
//	struct { uint16 limit; opaque cursor<V>; } Page;
type Page struct {
	// Limit is how many users are wanted at most; 0 in an answer.
	Limit uint16
	// Cursor is empty for the first part, and in an answer after the last one. Only who made it can read it.
	Cursor []byte
}

// Marshal returns the encoding.
func (p *Page) Marshal() []byte {
	return tlspl.AppendOpaque(tlspl.AppendUint16(nil, p.Limit), p.Cursor)
}

// UnmarshalPage decodes a page.
func UnmarshalPage(b []byte) (*Page, error) {
	r := tlspl.NewReader(b)
	p := &Page{Limit: r.Uint16(), Cursor: r.Opaque(maxCursor)}
	return p, finish("Page", r)
}

// Page returns the page that is asked for; nil when it is not said, ErrMalformed when it cannot be read.
func (q *IdentifierRequest) Page() (*Page, error) { return pageIn(q.Extensions) }

// Page returns where the next part of what was found begins; nil when there is none.
func (a *IdentifierResponse) Page() *Page {
	p, err := pageIn(a.Extensions)
	if err != nil || p == nil || len(p.Cursor) == 0 {
		return nil
	}
	return p
}

func pageIn(d mls.AppDataDictionary) (*Page, error) {
	data, ok := d.Get(ComponentPage)
	if !ok {
		return nil, nil
	}
	return UnmarshalPage(data)
}
