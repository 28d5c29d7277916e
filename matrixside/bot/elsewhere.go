package bot

// Commands that people know from bridges which log in to an account of theirs at another service, and what is so here instead. %p stands for
// the prefix of commands in rooms.
const (
	noLogin     = "There is nothing to log in to: you are known to other providers already. `whoami` says under which address."
	noGroup     = "Make a room, invite me, and say `%p invite <address>` there. For a group whose people stay the same, say `start-chat` with their addresses."
	noPortal    = "Leave the room on Matrix, and you leave it on the other side, too."
	noRelay     = "No relay is needed: everybody in a room is shown on the other side under a name of their own."
	noSync      = "Rooms are compared by themselves, once an hour. Tell an administrator when the messages of a room cannot be read any more."
	noPower     = "Change power levels in the settings of the room. What they cannot say, `%p role` can."
	noLookup    = "`search` looks for people at a provider; `start-chat` takes an address at once."
	noChoice    = "Any chat of you and me alone will do: there you need no `%p` before a command."
	noneToAbort = "There is nothing to cancel: I do not wait for an answer of yours."
)

var elsewhere = map[string]string{
	"login": noLogin, "logout": noLogin, "relogin": noLogin, "list-logins": noLogin, "login-matrix": noLogin, "logout-matrix": noLogin,
	"create-group": noGroup, "create": noGroup, "create-portal": noGroup,
	"delete-portal": noPortal, "delete-chat": noPortal, "delete-all-portals": noPortal,
	"set-relay": noRelay, "unset-relay": noRelay,
	"sync": noSync, "sync-portal": noSync,
	"set-pl": noPower, "resolve-identifier": noLookup, "set-management-room": noChoice, "cancel": noneToAbort,
}
