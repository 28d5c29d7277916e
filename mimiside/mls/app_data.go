package mls

import (
	"fmt"
	"slices"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// ComponentData is one entry of an AppDataDictionary, and one item of a SafeAAD, which has the same encoding.
type ComponentData struct {
	Component ComponentID
	Data      []byte
}

func readComponentData(r *tlspl.Reader) ComponentData {
	return ComponentData{Component: ComponentID(r.Uint16()), Data: r.Opaque(-1)}
}

func (c *ComponentData) append(b []byte) []byte {
	return tlspl.AppendOpaque(tlspl.AppendUint16(b, uint16(c.Component)), c.Data)
}

// readSortedComponents reads a vector of entries that must be sorted by component, each at most once.
func readSortedComponents(r *tlspl.Reader) []ComponentData {
	list := readList(r, maxComponents, readComponentData)
	for i := 1; i < len(list); i++ {
		if list[i-1].Component >= list[i].Component {
			r.Fail(fmt.Errorf("component 0x%04x: %w", uint16(list[i].Component), ErrOrder))
			return nil
		}
	}
	return list
}

// AppDataDictionary is the content of the app_data_dictionary extension (draft-ietf-mls-extensions-10 §2.7): data of
// components, sorted by component, each at most once. It is used like a value: Set and Remove return a new one.
type AppDataDictionary []ComponentData

func readAppDataDictionary(r *tlspl.Reader) AppDataDictionary { return readSortedComponents(r) }

// UnmarshalAppDataDictionary decodes an AppDataDictionary and refuses one that is not sorted and unique.
func UnmarshalAppDataDictionary(b []byte) (AppDataDictionary, error) {
	return decode("AppDataDictionary", b, readAppDataDictionary)
}

// Marshal returns the encoding; the empty dictionary is the byte 00.
func (d AppDataDictionary) Marshal() []byte { return appendList(nil, d, (*ComponentData).append) }

// Extension returns the app_data_dictionary extension.
func (d AppDataDictionary) Extension() Extension {
	return Extension{Type: ExtensionAppDataDictionary, Data: d.Marshal()}
}

func (d AppDataDictionary) search(id ComponentID) (int, bool) {
	return slices.BinarySearchFunc(d, id, func(c ComponentData, id ComponentID) int { return int(c.Component) - int(id) })
}

// Get returns the data of a component, and whether there is an entry for it.
func (d AppDataDictionary) Get(id ComponentID) ([]byte, bool) {
	if i, ok := d.search(id); ok {
		return d[i].Data, true
	}
	return nil, false
}

// Set returns a dictionary in which the component has the given data.
func (d AppDataDictionary) Set(id ComponentID, data []byte) AppDataDictionary {
	out := slices.Clone(d)
	i, ok := out.search(id)
	if ok {
		out[i].Data = data
		return out
	}
	return slices.Insert(out, i, ComponentData{Component: id, Data: data})
}

// Remove returns a dictionary without the component.
func (d AppDataDictionary) Remove(id ComponentID) AppDataDictionary {
	i, ok := d.search(id)
	if !ok {
		return d
	}
	return slices.Delete(slices.Clone(d), i, i+1)
}

// Dictionary returns the AppDataDictionary among the extensions, nil when there is none.
func (l Extensions) Dictionary() (AppDataDictionary, error) {
	data, ok := l.Find(ExtensionAppDataDictionary)
	if !ok {
		return nil, nil
	}
	return UnmarshalAppDataDictionary(data)
}

// ComponentsList is the data of the components app_components and safe_aad (draft-ietf-mls-extensions-10 §3).
type ComponentsList []ComponentID

// UnmarshalComponentsList decodes a ComponentsList.
func UnmarshalComponentsList(b []byte) (ComponentsList, error) {
	return decode("ComponentsList", b, func(r *tlspl.Reader) ComponentsList {
		return readUint16s[ComponentID](r, maxComponents)
	})
}

// Marshal returns the encoding.
func (l ComponentsList) Marshal() []byte { return appendUint16s(nil, l) }

// Contains tells whether the list has the component.
func (l ComponentsList) Contains(id ComponentID) bool { return slices.Contains(l, id) }

// WireFormats is the content of the extensions supported_wire_formats and required_wire_formats
// (draft-ietf-mls-extensions-10 §3).
type WireFormats []WireFormat

// UnmarshalWireFormats decodes WireFormats.
func UnmarshalWireFormats(b []byte) (WireFormats, error) {
	return decode("WireFormats", b, func(r *tlspl.Reader) WireFormats {
		return readUint16s[WireFormat](r, maxCapabilities)
	})
}

// Marshal returns the encoding.
func (l WireFormats) Marshal() []byte { return appendUint16s(nil, l) }

// Contains tells whether the list has the wire format.
func (l WireFormats) Contains(f WireFormat) bool { return slices.Contains(l, f) }

// AppDataUpdate changes one component of the GroupContext's dictionary (draft-ietf-mls-extensions-10 §2.8).
type AppDataUpdate struct {
	Component ComponentID
	Operation AppDataUpdateOperation
	Update    []byte // of AppDataUpdateSet: what the component's logic applies
}

func readAppDataUpdate(r *tlspl.Reader) *AppDataUpdate {
	u := &AppDataUpdate{Component: ComponentID(r.Uint16()), Operation: AppDataUpdateOperation(r.Uint8())}
	switch u.Operation {
	case AppDataUpdateSet:
		u.Update = r.Opaque(-1)
	case AppDataUpdateRemove:
	default:
		unknownValue(r, "AppDataUpdate operation", uint64(u.Operation))
	}
	return u
}

func (u *AppDataUpdate) append(b []byte) []byte {
	b = append(tlspl.AppendUint16(b, uint16(u.Component)), byte(u.Operation))
	if u.Operation == AppDataUpdateSet {
		b = tlspl.AppendOpaque(b, u.Update)
	}
	return b
}

// AppEphemeral attaches data of a component to a commit (draft-ietf-mls-extensions-10 §2.9).
type AppEphemeral struct {
	Component ComponentID
	Data      []byte
}

func readAppEphemeral(r *tlspl.Reader) *AppEphemeral {
	return &AppEphemeral{Component: ComponentID(r.Uint16()), Data: r.Opaque(-1)}
}

func (e *AppEphemeral) append(b []byte) []byte {
	return tlspl.AppendOpaque(tlspl.AppendUint16(b, uint16(e.Component)), e.Data)
}

// SafeAAD is the whole authenticated_data of every message of a group whose dictionary has the component safe_aad
// (draft-ietf-mls-extensions-10 §2.10): items sorted by component, each at most once. It encodes like an
// AppDataDictionary; the empty SafeAAD is the byte 00.
type SafeAAD []ComponentData

// UnmarshalSafeAAD decodes a SafeAAD and refuses trailing bytes and items that are not sorted and unique.
func UnmarshalSafeAAD(b []byte) (SafeAAD, error) {
	aad, err := decode("SafeAAD", b, func(r *tlspl.Reader) SafeAAD { return readSortedComponents(r) })
	if err != nil {
		return nil, fail(KindInvalid, "check authenticated data", fmt.Errorf("%w: %w", ErrSafeAAD, err))
	}
	return aad, nil
}

// Marshal returns the encoding.
func (a SafeAAD) Marshal() []byte { return appendList(nil, a, (*ComponentData).append) }

// Get returns the item of a component, and whether there is one.
func (a SafeAAD) Get(id ComponentID) ([]byte, bool) { return AppDataDictionary(a).Get(id) }

// Set returns a SafeAAD in which the component has the given item.
func (a SafeAAD) Set(id ComponentID, data []byte) SafeAAD {
	return SafeAAD(AppDataDictionary(a).Set(id, data))
}
