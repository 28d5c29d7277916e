package relay

import (
	"encoding/json"
	"fmt"

	"github.com/matrix-mimi/bridge/internal/killpoint"
	"github.com/matrix-mimi/bridge/internal/store"
)

// Kinds of inputs. The answer to a request of ours is store.InputAnswer.
const (
	inputMatrix    = "matrix"    // an event of the Matrix room, as received
	inputNotify    = "notify"    // one item of a hub's fan-out
	inputTimer     = "timer"     // a time that has come
	inputCommand   = "command"   // a message for the bot, as received
	inputRead      = "read"      // the state of the Matrix room is to be read
	inputSuccessor = "successor" // the state of the Matrix room that replaces this one is to be read; its id is the body
	inputAhead     = "ahead"     // an event of the Matrix room that replaces this one, before the conversation has gone there
	inputAgain     = "again"     // an event whose message is to be said again in a newer epoch
	inputReceipt   = "receipt"   // users have read the room up to an event
	inputEncrypted = "encrypted" // an encrypted event of the Matrix room, as received
	inputConsent   = "consent"   // a consent was asked for or given
	inputSubmit    = "submit"    // a message for a room that we are the hub of, taken before it is judged
	inputEnded     = "ended"     // the hub says that the room has ended
	inputAction    = "action"    // something that the bot or an operator asked for

	// Of conversations with ActivityPub actors.
	inputThread          = "thread"           // an event of its Matrix room, as received
	inputThreadEncrypted = "thread-encrypted" // an encrypted event of its Matrix room, as received
	inputThreadTask      = "thread-task"      // a change of its members that is asked for, or something that is said again
)

// What timers are for.
const (
	timerPending  = "pending"  // messages stop waiting for our commit
	timerAsk      = "ask"      // a commit that met another epoch: ask the hub
	timerWaiting  = "waiting"  // items that wait for an earlier one are too old
	timerResync   = "resync"   // try to join the group anew
	timerRenew    = "renew"    // renew the keys of a leaf
	timerCommit   = "commit"   // commit proposals that nobody committed
	timerGo       = "go"       // go on with the wishes that stand
	timerReport   = "report"   // send the reports of what was read and delivered
	timerUpgrade  = "upgrade"  // try to follow into the room that replaces another
	timerExpire   = "expire:"  // a message expires; its id stands behind the colon
	timerPortal   = "portal"   // ask for the portal again
	timerConsent  = "consent:" // somebody has not answered; the number of the wish stands behind the colon
	timerCheck    = "check"    // compare the room with its Matrix room
	timerProfiles = "profiles" // ask for the profiles that are missing
	timerLinks    = "links"    // the time of a join link is up
	timerCatchUp  = "catch-up" // compare the group with the hub's after a restore
	timerJoin     = "join"     // try to join by a link again
)

// References by which answers are known.
const (
	refUpdate     = "update"      // our commit
	refProposals  = "proposals"   // proposals of ours; what they were stands behind the colon
	refSubmit     = "submit"      // a message; how often it was said stands behind the colon
	refClaim      = "claim"       // KeyPackages for an intent
	refClaims     = "claims"      // KeyPackages for several intents
	refOpenJoin   = "open-join"   // the ghost through which a room is read joined
	refBotJoin    = "bot-join"    // the bot joined
	refPortal     = "portal"      // the portal was made
	refGroupInfo  = "group-info"  // the group's state for a rejoin
	refEvidence   = "evidence"    // the group's state to judge our pending commit by
	refExternal   = "external"    // the group's state for a first join
	refCompare    = "compare"     // the group's state to see whether ours is the same
	refUpgrade    = "upgrade"     // the bot joined the room that replaces another, which stands behind the colon
	refGoOver     = "go-over"     // a ghost invited the bot into the room that replaces another
	refProfiles   = "profiles"    // profiles of users; the provider stands behind the colon
	refLinkStatus = "link-status" // why a joining code was refused; who presented it stands behind the colon
	refKnock      = "knock"       // a knock of a user of ours; who it is stands behind the colon
	refShownKnock = "shown-knock" // a knock at a room of ours; the user stands behind the colon
	refPicture    = "picture"     // the picture of a user; the ghost stands behind the colon
	refMember     = "member"      // a change of membership in Matrix; the user stands behind the colon
	refTold       = "told"        // something that was told to who shares an extension; it need not arrive
	refReport     = "report"      // a report; who made it and by which event stand behind the colon
)

// dispatch decides what an input leads to, and then what can be done of the wishes that stand.
func (s *step) dispatch(in *store.Input) error {
	killpoint.Hit("K5")
	var err error
	switch in.Kind {
	case inputMatrix:
		err = s.onMatrix(in)
	case inputAhead:
		err = s.onAhead(in)
	case inputNotify:
		err = s.onNotify(in)
	case inputEnded:
		err = s.onEnded(in.Body)
	case inputSubmit:
		err = s.onSubmitted(in)
	case store.InputAnswer:
		var a store.Answer
		if err := json.Unmarshal(in.Body, &a); err != nil {
			return fmt.Errorf("read an answer: %w", err)
		}
		err = s.onAnswer(&a)
	case inputTimer:
		err = s.onTimer(string(in.Body))
	case store.InputRestored:
		err = s.onRestored()
	case inputReceipt:
		err = s.onReceipts(in.Body)
	case inputConsent:
		err = s.onConsent(in.Body)
	case inputAction:
		err = s.onAction(in.Body)
	case inputCommand:
		// The commander had it before this step.
	default:
		err = fmt.Errorf("input of unknown kind %q", in.Kind)
	}
	return s.then(err)
}

// then goes on with the wishes that stand, also when the input itself waits: it may wait for one of them.
func (s *step) then(err error) error {
	if err != nil {
		return err
	}
	s.openOver()
	return s.advance()
}

// waitFor sets the input aside until an epoch has come, or for anything that makes waiting inputs ready.
func (s *step) waitFor(epoch int64, reason string) { s.fx.wait = &waiting{epoch, reason} }
