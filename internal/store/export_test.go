package store

import "context"

// RoomTables are the tables with rows of a room, and the names that lead to it.
func RoomTables() []string { return append([]string{"room_name"}, roomTables...) }

// SealedColumns are the columns that the rotation of keys seals anew, as table.column.
func SealedColumns() []string {
	var out []string
	for _, c := range sealedColumns {
		out = append(out, c.table+"."+c.column)
	}
	return out
}

// ForgetChanges makes Close write no marker.
func (db *DB) ForgetChanges() { db.changed.Store(false) }

// Instance is what the database says of itself.
func (db *DB) Instance(ctx context.Context) (map[string]string, error) { return db.instance(ctx) }
