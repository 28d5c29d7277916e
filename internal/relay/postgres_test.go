package relay

import "testing"

// The same on PostgreSQL: a conversation with everything that changes a room, and a random sequence.
func TestOnPostgres(t *testing.T) {
	for name, test := range map[string]func(*testing.T, mode){
		"SecondUserOfEachBridge": testSecondUserOfEachBridge, "ThreeProviders": testThreeProviders, "KickBanUnban": testKickBanUnban,
		"LeaveAndReturn": testLeaveAndReturn, "CommitCollision": testCommitCollision, "JoinByURI": testJoinByURI, "PowerLevelsAndRoles": testPowerLevelsAndRoles,
	} {
		t.Run(name, func(t *testing.T) { test(t, postgres) })
	}
}
