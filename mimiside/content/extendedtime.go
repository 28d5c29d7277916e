package content

import "github.com/fxamacker/cbor/v2"

// appendExtendedTime appends the map of an extended time (RFC 9581 §3): 1 → seconds since 1970 and, unless
// zero, -3 → milliseconds.
func appendExtendedTime(b []byte, ms uint64) []byte {
	pairs := uint64(1)
	if ms%1000 != 0 {
		pairs = 2
	}
	b = appendHead(appendHead(appendHead(b, majorMap, pairs), majorUint, 1), majorUint, ms/1000)
	if pairs == 2 {
		b = appendHead(appendHead(b, majorNint, 2), majorUint, ms%1000)
	}
	return b
}

// parseExtendedTime reads seconds (key 1) and one fraction (keys -3, -6, -9) and returns milliseconds since 1970.
func parseExtendedTime(raw []byte) (ms uint64, ok bool) {
	var m map[any]cbor.RawMessage
	if len(raw) == 0 || raw[0]>>5 != majorMap || decMode.Unmarshal(raw, &m) != nil {
		return 0, false
	}
	var seconds, fraction uint64
	if v, there := m[int64(1)]; !there || scalar("seconds", v, majorUint, &seconds) != nil || seconds > maxSafeInteger/1000 {
		return 0, false
	}
	for key, perMS := range map[int64]uint64{-3: 1, -6: 1000, -9: 1000000} {
		v, there := m[key]
		if !there {
			continue
		}
		if scalar("fraction", v, majorUint, &fraction) != nil || fraction >= 1000*perMS {
			return 0, false
		}
		fraction /= perMS
		break
	}
	return seconds*1000 + fraction, true
}
