package mls

import (
	"fmt"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// exportTreeHeight gives the exporter tree one leaf for each ComponentID (draft-ietf-mls-extensions-10 §2.5).
const exportTreeHeight = 16

// exportTree is the exporter tree of one epoch: each component's secret is handed out once.
type exportTree struct{ seedTree }

// newExportTree takes the application_export secret of an epoch over.
func newExportTree(suite Suite, applicationExport Secret) *exportTree {
	return &exportTree{newSeedTree(suite, exportTreeHeight, applicationExport)}
}

// export is SafeExportSecret: ErrConsumed when the component's secret was handed out before.
func (t *exportTree) export(component ComponentID) (Secret, error) {
	o, ok := t.open(LeafIndex(component))
	if !ok {
		return nil, failf(KindReplay, "export secret of component", ErrConsumed, "0x%04x", uint16(component))
	}
	secret := o.leaf.Clone()
	t.apply(o)
	return secret, nil
}

const exportTreeVersion = 1

// Marshal returns the stored form, versioned.
func (t *exportTree) Marshal() Secret {
	b := []byte{exportTreeVersion}
	return tlspl.AppendVector(b, func(b []byte) []byte {
		for _, n := range t.nodes() {
			b = tlspl.AppendOpaque(tlspl.AppendUint32(b, uint32(n)), t.seeds[n])
		}
		return b
	})
}

// unmarshalExportTree reads what Marshal wrote.
func unmarshalExportTree(suite Suite, b Secret) (*exportTree, error) {
	return decode("exporter tree", b, func(r *tlspl.Reader) *exportTree {
		t := &exportTree{seedTree{suite: suite, height: exportTreeHeight, seeds: map[nodeIndex]Secret{}}}
		if v := r.Uint8(); v != exportTreeVersion {
			r.Fail(fmt.Errorf("version %d: %w", v, ErrStateVersion))
		}
		for body := r.Vector(-1); body.More(); {
			n, s := body.Uint32(), body.Opaque(-1)
			if n >= 2<<exportTreeHeight-1 || len(s) != suite.HashLength() {
				unknownValue(r, "seed of node", uint64(n))
				break
			}
			t.seeds[nodeIndex(n)] = Secret(s).Clone()
		}
		return t
	})
}
