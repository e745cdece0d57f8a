package notify

import (
	"context"
	"fmt"
)

// Standing is the little of an Overview that is asked for all the time.
type Standing struct {
	Waiting   int // mails that are to be sent, at most MostCounted
	SentToday int // mails that mail servers accepted since midnight UTC, likewise
	Paused    bool
}

// MostCounted is where a Standing stops counting: it costs the same however many mails there are.
const MostCounted = 10_000

// Standing reads how outgoing mail stands, in few words.
func (m *Mailer) Standing(ctx context.Context) (Standing, error) {
	var s Standing
	err := m.DB.QueryRow(ctx, `
		SELECT
			(SELECT count(*) FROM (SELECT FROM messages WHERE ended_at IS NULL LIMIT $1) x),
			(SELECT count(*) FROM (
				SELECT
				FROM messages
				WHERE ended_at >= date_trunc('day', now(), 'UTC')
					AND state = 'sent'
				LIMIT $1
			) x),
			(SELECT paused_at IS NOT NULL FROM mail_switch)`, MostCounted).Scan(&s.Waiting, &s.SentToday, &s.Paused)
	if err != nil {
		return Standing{}, fmt.Errorf("look at the mail: %w", err)
	}
	return s, nil
}
