package notify

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Pace is how fast mail goes, over all senders. The zero value sets no limit.
//
// Mails go in small bursts, a quarter of a second apart: so many that no second sees more of them than
// its rate. Whatever is claimed counts as sent; the ramp gets back what was not.
type Pace struct {
	Rate       float64 // mails a second
	DomainRate float64 // mails a second to the addresses of one domain
	// Ramp is how many mails go out on the first day (UTC) on which any does; on each further one it is twice as many.
	// A mail domain that has not written before is believed only slowly.
	Ramp int
}

// everywhere is the name of the row that paces all mail.
const everywhere = "*"

// slack makes up for delays between the claim of a mail and the mail: without it a second could now and
// then see one mail too many.
const slack = 1.04

// burst returns how many mails of a rate go at once.
func burst(rate float64) int { return max(1, int(rate/4)) }

// interval returns the time that n mails of a rate take.
func interval(rate float64, n int) time.Duration {
	return time.Duration(float64(n) * slack / rate * float64(time.Second))
}

func (p Pace) limited() bool { return p.Rate > 0 || p.Ramp > 0 }

// allow returns how many of the wanted mails may go now, and how long to wait if none may. It holds the
// row that paces all mail until tx ends, so that senders come one after the other.
func (p Pace) allow(ctx context.Context, tx pgx.Tx, wanted int) (n int, wait time.Duration, err error) {
	if !p.limited() {
		return wanted, 0, nil
	}
	var now, free, tomorrow time.Time
	var days, today int
	err = tx.QueryRow(ctx, `
		INSERT INTO mail_pace AS p (domain, free_at, promised_to, day)
		VALUES ($1, clock_timestamp(), clock_timestamp(), (clock_timestamp() AT TIME ZONE 'UTC')::date)
		ON CONFLICT (domain) DO UPDATE
		SET
			day = excluded.day,
			days = p.days + CASE WHEN p.day < excluded.day AND p.sent_today > 0 THEN 1 ELSE 0 END,
			sent_today = CASE WHEN p.day < excluded.day THEN 0 ELSE p.sent_today END
		RETURNING
			clock_timestamp(),
			free_at,
			(day + 1)::timestamp AT TIME ZONE 'UTC',
			days,
			sent_today`, everywhere).Scan(&now, &free, &tomorrow, &days, &today)
	if err != nil {
		return 0, 0, fmt.Errorf("pace the mail: %w", err)
	}
	n = wanted
	if p.Rate > 0 {
		if wait = free.Sub(now); wait > 0 {
			return 0, wait, nil
		}
		n = min(n, burst(p.Rate))
	}
	if p.Ramp > 0 {
		n = min(n, p.quota(days)-today)
		if n <= 0 {
			return 0, tomorrow.Sub(now), nil
		}
	}
	return n, 0, nil
}

// quota returns how many mails may go on a day, after so many days of sending.
func (p Pace) quota(days int) int {
	if days > 30 {
		return math.MaxInt
	}
	return p.Ramp << days
}

// spend counts n mails that go now.
func (p Pace) spend(ctx context.Context, tx pgx.Tx, n int) error {
	if !p.limited() || n == 0 {
		return nil
	}
	var busy time.Duration
	if p.Rate > 0 {
		busy = interval(p.Rate, n)
	}
	_, err := tx.Exec(ctx, `
		UPDATE mail_pace
		SET
			free_at = clock_timestamp() + make_interval(secs => $2),
			sent_today = sent_today + $3
		WHERE domain = $1`, everywhere, busy.Seconds(), n)
	if err != nil {
		return fmt.Errorf("pace the mail: %w", err)
	}
	return nil
}

// look returns how many mails to look at where room is for some: those to one domain must not hide the others.
func (p Pace) look(room int) int {
	const wide = 256
	if p.DomainRate > 0 {
		return max(room, wide)
	}
	return room
}

// perDomain returns the candidates, at most room, that their domains let through now, and how many it has
// postponed. Those get a turn later, so that they do not stand in the way of mails to other domains. Who had a
// turn already comes before who has none yet.
func (p Pace) perDomain(ctx context.Context, tx pgx.Tx, due []candidate, room int) (through []candidate, postponed int, err error) {
	if p.DomainRate <= 0 {
		return due, 0, nil
	}
	var domains []string
	for _, c := range due {
		domains = append(domains, c.Domain)
	}
	slices.Sort(domains) // Senders lock rows in one order.
	domains = slices.Compact(domains)
	type turn struct {
		Domain   string
		Now      time.Time
		Free     time.Time
		Promised time.Time
	}
	rows, err := tx.Query(ctx, `
		INSERT INTO mail_pace AS p (domain, free_at, promised_to, day)
		SELECT
			domain,
			clock_timestamp(),
			clock_timestamp(),
			(clock_timestamp() AT TIME ZONE 'UTC')::date
		FROM unnest($1::text[]) domain
		ON CONFLICT (domain) DO UPDATE SET day = excluded.day
		RETURNING
			domain,
			clock_timestamp(),
			free_at,
			promised_to`, domains)
	if err != nil {
		return nil, 0, fmt.Errorf("pace the mail by domain: %w", err)
	}
	turns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[turn])
	if err != nil {
		return nil, 0, fmt.Errorf("pace the mail by domain: %w", err)
	}
	byDomain := make(map[string]*turn, len(turns))
	left := make(map[string]int, len(turns))
	for i := range turns {
		t := &turns[i]
		byDomain[t.Domain] = t
		if !t.Free.After(t.Now) {
			left[t.Domain] = burst(p.DomainRate)
		}
		t.Promised = latest(t.Promised, t.Free, t.Now)
	}

	var waiting []uuid.UUID
	var until []time.Time
	delayed := make(map[string]int) // turns that come later than they were given
	for _, c := range due {
		t := byDomain[c.Domain]
		if t == nil {
			return nil, 0, errors.New("pace the mail by domain: a domain has no row")
		}
		if left[c.Domain] > 0 {
			if len(through) == room {
				continue
			}
			left[c.Domain]--
			through = append(through, c)
			t.Free = latest(t.Free, t.Now).Add(interval(p.DomainRate, 1))
			t.Promised = latest(t.Promised, t.Free)
			continue
		}
		waiting = append(waiting, c.ID)
		if c.Paced {
			until = append(until, latest(t.Free, t.Now).Add(interval(p.DomainRate, delayed[c.Domain])))
			delayed[c.Domain]++
			continue
		}
		until = append(until, t.Promised)
		t.Promised = t.Promised.Add(interval(p.DomainRate, 1))
	}
	free := make([]time.Time, len(turns))
	promised := make([]time.Time, len(turns))
	for i, t := range turns {
		domains[i], free[i], promised[i] = t.Domain, t.Free, t.Promised
	}
	_, err = tx.Exec(ctx, `
		UPDATE mail_pace p
		SET
			free_at = t.free_at,
			promised_to = t.promised_to
		FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[]) t (domain, free_at, promised_to)
		WHERE p.domain = t.domain`, domains, free, promised)
	if err != nil {
		return nil, 0, fmt.Errorf("pace the mail by domain: %w", err)
	}
	_, err = tx.Exec(ctx, `
		UPDATE messages m
		SET
			due_at = t.due_at,
			paced = true
		FROM unnest($1::uuid[], $2::timestamptz[]) t (id, due_at)
		WHERE m.id = t.id`, waiting, until)
	if err != nil {
		return nil, 0, fmt.Errorf("pace the mail by domain: %w", err)
	}
	return through, len(waiting), nil
}

// restore takes back n mails that were claimed and not sent: they are none of the day's.
func (p Pace) restore(ctx context.Context, tx pgx.Tx, n int) error {
	if p.Ramp == 0 || n == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `
		UPDATE mail_pace
		SET sent_today = greatest(0, sent_today - $2)
		WHERE domain = $1`, everywhere, n)
	if err != nil {
		return fmt.Errorf("pace the mail: %w", err)
	}
	return nil
}

func latest(times ...time.Time) time.Time { return slices.MaxFunc(times, time.Time.Compare) }
