package store

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
