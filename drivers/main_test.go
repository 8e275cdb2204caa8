package drivers_test

import (
	"testing"

	"github.com/shalestore/shale/internal/testutil"
)

func TestMain(m *testing.M) { testutil.MainAsRoot(m) }
