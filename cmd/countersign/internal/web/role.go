package web

import (
	"errors"
	"fmt"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/authflow/admin"
)

// errRole is matched by every *roleError.
var errRole = errors.New("your role does not allow this")

// roleError tells which role it takes.
type roleError struct{ need admin.Role }

func (e *roleError) Error() string { return fmt.Sprintf("%v: it takes the role %s", errRole, e.need) }

// Is reports that this is errRole.
func (e *roleError) Is(target error) bool { return target == errRole }

// requireRole lets an operator go on whose role is the needed one or includes it. It stands behind requireOperator.
func (s *Server) requireRole(need admin.Role) gin.HandlerFunc {
	return s.step(func(c *gin.Context) error {
		if !operator(c).May(need) {
			return &roleError{need}
		}
		return nil
	})
}
