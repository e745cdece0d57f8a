package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"
)

// verifyBatch is how many entries are read at a time.
const verifyBatch = 5000

// Verdict is what Verify found.
type Verdict struct {
	Entries int64  `json:"entries" doc:"how many entries fit, from the first on"`
	Head    Head   `json:"head" doc:"the last of them"`
	Broken  *Break `json:"broken" doc:"null if the whole trail fits"`
}

// Break is the first place where a trail does not fit.
type Break struct {
	ID  int64  `json:"id" doc:"of the entry"`
	Why string `json:"why"`
}

// Verify reads the whole trail, as it is at one moment, and computes every hash anew. A head that was noted elsewhere
// has to be in it, if one is given. Progress, if any, is told how many of how many entries have been read. A trail
// that does not fit is a Verdict; an error says that it could not be read.
func (s *Store) Verify(ctx context.Context, noted *Head, progress func(done, total int64)) (Verdict, error) {
	c := chain{noted: noted}
	if err := s.verify(ctx, &c, progress); err != nil {
		return Verdict{}, fmt.Errorf("verify the audit trail: %w", err)
	}
	return Verdict{Entries: c.head.ID, Head: c.head, Broken: c.broken}, nil
}

func (s *Store) verify(ctx context.Context, c *chain, progress func(done, total int64)) error {
	tx, err := s.DB.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx) //nolint:errcheck // It only reads.
	if _, err := tx.Exec(ctx, `SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY`); err != nil {
		return err
	}
	kept, err := readHead(ctx, tx)
	if err != nil {
		return err
	}
	c.compare()
	from := int64(math.MinInt64) // Nobody should hide an entry before the first.
	for more := true; more && c.broken == nil; from = c.head.ID + 1 {
		links, err := readLinks(ctx, tx, from)
		if err != nil {
			return err
		}
		for _, l := range links {
			if c.broken == nil {
				c.follow(l)
			}
		}
		if more = len(links) == verifyBatch; progress != nil {
			progress(c.head.ID, kept.ID)
		}
	}
	if c.broken == nil {
		c.end(kept)
	}
	return nil
}

// chain is as much of a trail as was followed.
type chain struct {
	head   Head
	noted  *Head
	broken *Break
}

// storedLink is a row of the table.
type storedLink struct {
	link

	version int
	hash    []byte
}

// follow takes the next entry.
func (c *chain) follow(l storedLink) {
	next := c.head.ID + 1
	switch hash := l.link.hash(c.head.Hash); {
	case l.id > next:
		c.breaks(next, fmt.Sprintf("It is missing: the next one that is there is %d.", l.id))
	case l.id < next:
		c.breaks(l.id, "There is no such entry in a trail, which begins with 1.")
	case l.version != version:
		c.breaks(next, fmt.Sprintf("Its encoding has the version %d, and this program knows version %d: "+
			"a newer program wrote it, or somebody changed it.", l.version, version))
	case !bytes.Equal(hash[:], l.hash):
		c.breaks(next, "Its hash does not fit: it was changed, or it followed another one.")
	default:
		c.head = Head{next, hash}
		c.compare()
	}
}

// compare holds the entry that was followed last against the head that was noted.
func (c *chain) compare() {
	if c.noted != nil && c.noted.ID == c.head.ID && c.noted.Hash != c.head.Hash {
		c.breaks(c.head.ID, fmt.Sprintf("Its hash is %s, and %s was noted: it, or one before it, was rewritten, "+
			"or that was noted of another trail.", c.head.Hash, c.noted.Hash))
	}
}

// end compares the end of the trail with the head that is kept, and with the one that was noted.
func (c *chain) end(kept Head) {
	switch {
	case kept.ID < 0:
		c.breaks(c.head.ID+1, "The head that is kept beside the trail is gone: entries may be missing from here on.")
	case kept.ID > c.head.ID:
		c.breaks(c.head.ID+1, fmt.Sprintf("It is missing: the end of the trail was cut off, which should be %d.", kept.ID))
	case c.noted != nil && c.noted.ID > c.head.ID:
		c.breaks(c.head.ID+1, fmt.Sprintf("It is missing: the end of the trail was cut off, as %d was noted.", c.noted.ID))
	case kept != c.head:
		c.breaks(kept.ID+1, fmt.Sprintf("The head that is kept is %s: somebody wrote to the trail by other means, or changed the head.", kept))
	}
}

func (c *chain) breaks(id int64, why string) { c.broken = &Break{id, why} }

func readHead(ctx context.Context, tx pgx.Tx) (Head, error) {
	var h Head
	var hash []byte
	err := tx.QueryRow(ctx, `SELECT id, hash FROM audit_head`).Scan(&h.ID, &hash)
	if errors.Is(err, pgx.ErrNoRows) { // Somebody removed it. No trail has this one.
		return Head{ID: -1}, nil
	}
	copy(h.Hash[:], hash)
	return h, err
}

// readLinks reads the next entries, whatever stands in the table.
func readLinks(ctx context.Context, tx pgx.Tx, from int64) ([]storedLink, error) {
	rows, err := tx.Query(ctx, `
		SELECT
			id,
			version,
			trunc(extract(epoch FROM at) * 1000000)::text,
			actor,
			action,
			object,
			before::text,
			after::text,
			hash
		FROM audit
		WHERE id >= $1
		ORDER BY id
		LIMIT $2`, from, verifyBatch)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (l storedLink, err error) {
		return l, row.Scan(&l.id, &l.version, &l.at, &l.actor, &l.action, &l.object, &l.before, &l.after, &l.hash)
	})
}
