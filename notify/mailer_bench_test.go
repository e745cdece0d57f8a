package notify_test

import (
	"testing"

	"github.com/countersign/countersign/notify/mailsink"
)

// BenchmarkMailer sends one mail an iteration, from the queue to a mail server on this machine.
func BenchmarkMailer(b *testing.B) {
	f := openOffice(b, mailsink.Options{MaxMessages: b.N})
	f.imports(b, many(b.N))
	b.ResetTimer()
	f.work(b)
	eventually(b, "all mails are sent", func() bool {
		return ask[int](b, f, `SELECT count(*) FROM messages WHERE state = 'sent'`) == b.N
	})
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "mails/s")
}
