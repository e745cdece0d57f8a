package notify

// ReadActivation returns whom a mail was sent to, and the link that is the provider's.
func ReadActivation(raw []byte, hosts []string) (to []string, link string) {
	a := readActivation(raw, hosts)
	return a.to, a.link
}
