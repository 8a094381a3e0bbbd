package iso

import "strings"

// ParseTrack2 is the card number of track 2 (ISO/IEC 7813): what stands before
// the separator, = or D. Errors carry nothing of the track.
func ParseTrack2(track Secret) (PAN, error) {
	t := track.Reveal()
	at := strings.IndexAny(t, "=D")
	if at < 0 {
		return PAN{}, invalid(35, "has no separator")
	}
	if len(t) > 37 || !charsets["z"](t) {
		return PAN{}, invalid(35, "is no track 2")
	}
	pan, err := ParsePAN(t[:at])
	if err != nil {
		return PAN{}, invalid(35, "does not begin with a card number")
	}
	return pan, nil
}
