package web

import (
	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

func (s *Server) console(c *gin.Context) templates.Console {
	return templates.Console{Agency: s.letterhead(c).Agency, Operator: operator(c).Name, Role: templates.Role(operator(c).Role)}
}

// mayAct tells whether who is signed in may change clients.
func (s *Server) mayAct(c *gin.Context) bool { return operator(c).May(admin.RoleOperator) }

func stageCounts(p provisioning.Progress) map[templates.Stage]int {
	counts := make(map[templates.Stage]int, len(p.Stages))
	for stage, n := range p.Stages {
		counts[templates.Stage(stage)] = int(n)
	}
	return counts
}

func reasonCounts(p provisioning.Progress) map[templates.Reason]int {
	counts := make(map[templates.Reason]int, len(p.Reasons))
	for reason, n := range p.Reasons {
		counts[templates.Reason(reason)] = int(n)
	}
	return counts
}

func orZero[T any](p *T) T {
	var zero T
	if p == nil {
		return zero
	}
	return *p
}
