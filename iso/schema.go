package iso

import _ "embed"

//go:embed profile.schema.json
var profileSchema []byte

// ProfileSchema is the JSON Schema (draft 2020-12) of a profile file, with a
// description of every key: for editors, and for a reader who writes one. What
// it cannot say (a data element that nothing makes, a track that may not be kept)
// LoadProfile checks.
func ProfileSchema() []byte { return append([]byte(nil), profileSchema...) }
