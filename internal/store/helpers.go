package store

import (
	"strconv"
	"strings"
)

// never is Never as SQL.
var never = strconv.FormatInt(Never, 10)

// number is a limit as SQL. SQLite compiles a statement anew whenever a parameter in LIMIT is bound, so
// the queries that each message needs have none there.
func number(n int) string { return strconv.Itoa(n) }

// bit is how truth is kept.
func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// bytesOf is b, never NULL.
func bytesOf(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// nullable is NULL for "".
func nullable(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// nullableBytes is NULL for no bytes.
func nullableBytes(b []byte) any {
	if len(b) == 0 {
		return nil
	}
	return b
}

// prefixed puts an alias before each column of a list.
func prefixed(alias, columns string) string {
	parts := strings.Split(columns, ", ")
	for i := range parts {
		parts[i] = alias + "." + strings.TrimSpace(parts[i])
	}
	return strings.Join(parts, ", ")
}

// cut makes a text at most n bytes long and valid UTF-8, as PostgreSQL wants it, without NUL.
func cut(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "?")
}
