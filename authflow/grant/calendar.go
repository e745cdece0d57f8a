package grant

import (
	"math/rand/v2"
	"time"
)

const (
	// proofAfter and proofSpread say when a new grant is refreshed for the first time: soon enough that an
	// owner whose grant is not kept still remembers it, and not all at once.
	proofAfter  = 10 * time.Minute
	proofSpread = 30 * time.Minute

	// idleLeast and idleMost are the days that a grant may rest: a refresh token that is not used for 180
	// days is gone (constant-contact.md, 1.6), and half of that leaves a quarter of a year to mend whatever
	// is in the way. Spreading it lets grants of one busy day not come back on one day.
	idleLeast = 75 * 24 * time.Hour
	idleMost  = 90 * 24 * time.Hour
)

// proofDue returns when a grant that was made now is refreshed for the first time.
func proofDue(now time.Time) time.Time { return now.Add(proofAfter + spread(proofSpread)) }

// idle returns how long a grant that was refreshed rests, if nobody wants a token before.
func idle() time.Duration { return idleLeast + spread(idleMost-idleLeast) }

// again returns how long to wait after so many failures in a row that say nothing about the grant: a
// minute, doubling, up to three hours, each with a spread of half.
func again(failures int) time.Duration {
	const least, most = time.Minute, 3 * time.Hour
	pause := min(least<<min(max(failures-1, 0), 10), most)
	return pause/2 + spread(pause)
}

// spread keeps apart what would come together.
func spread(over time.Duration) time.Duration {
	return rand.N(over) //nolint:gosec // Whoever guesses it gains nothing.
}
