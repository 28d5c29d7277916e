package store

// RoomTables are the tables with rows of a room.
func RoomTables() []string { return append([]string{"room_name"}, roomTables...) }
