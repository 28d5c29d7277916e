package puppets

// DefaultStock is how many unclaimed KeyPackages a client has.
const DefaultStock = 5

// StockState is what a client has unclaimed.
type StockState struct {
	// Ready counts KeyPackages that are neither claimed nor last resort and not due for renewal.
	Ready int
	// LastResort tells whether there is a last-resort one that is not due for renewal.
	LastResort bool
	// LastResortUsed tells whether the last-resort one was handed out since it was made.
	LastResortUsed bool
}

// StockPlan is what must be made.
type StockPlan struct {
	Ready      int
	LastResort bool
}

// Empty tells whether nothing is missing.
func (p StockPlan) Empty() bool { return p.Ready == 0 && !p.LastResort }

// PlanStock says what a client lacks to have target KeyPackages in stock and a last-resort one that nobody was
// given. A last-resort one is replaced after it was handed out (RFC 9420 §16.8).
func PlanStock(have StockState, target int) StockPlan {
	return StockPlan{
		Ready:      max(0, target-have.Ready),
		LastResort: !have.LastResort || have.LastResortUsed,
	}
}
