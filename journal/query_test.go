package journal

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// everyEntry asks every entry whether a query selects it: what the index must give.
func everyEntry(t *testing.T, all []Entry, q Query, card string, cards map[ID]string) (out []ID) {
	t.Helper()
	for _, e := range all {
		switch {
		case q.From != 0 && e.ID < q.From, q.To != 0 && e.ID > q.To:
		case q.STAN != 0 && e.STAN != q.STAN, q.RRN != "" && e.RRN != q.RRN, q.Last4 != "" && e.Last4 != q.Last4:
		case q.AmountMinor != 0 && e.Amount.Minor != q.AmountMinor:
		case q.Lane.Terminal != "" && e.Lane.Terminal != q.Lane.Terminal:
		case !q.Since.IsZero() && e.BegunAt.Before(q.Since), !q.Until.IsZero() && !e.BegunAt.Before(q.Until):
		case len(q.Status) > 0 && !slices.Contains(q.Status, e.Status):
		case card != "" && cards[e.ID] != card:
		default:
			out = append(out, e.ID)
		}
	}
	if q.Newest {
		slices.Reverse(out)
	}
	if q.Limit > 0 && len(out) > q.Limit {
		out = out[:q.Limit]
	}
	return out
}

// manySales takes n sales of few trace numbers, amounts, RRNs, cards and hours to some
// end, over two groups of ids, with the clock jumping either way (L12).
func manySales(s *scene, n int, chance *rand.Rand) map[ID]string {
	s.t.Helper()
	file := s.j.wal.file
	s.j.wal.file = hasty{file}
	s.j.lastID = 1<<indexGroupBits - ID(n)/2
	cards := map[ID]string{}
	for i := range n {
		s.ticks.Store(chance.Int64N(40_000))
		pan := []string{testPAN, "5555555555554444", ""}[chance.IntN(3)]
		id, err := s.j.Begin(Draft{
			Lane: []Lane{lane1, lane2}[chance.IntN(2)], STAN: 1 + chance.Uint32N(9), Type: "sale", MTI: "0200", PAN: Secret(pan), Last4: pan[max(len(pan)-4, 0):],
			Amount: Money{Minor: 100 * (1 + chance.Int64N(9)), Currency: "USD", Exponent: 2},
		})
		s.must(err)
		cards[id] = pan
		if chance.IntN(3) > 0 {
			s.must(s.j.Complete(id, Answer{Code: "00", RRN: fmt.Sprint("RRN", chance.IntN(9))}))
		}
		if i == n*2/3 {
			s.must(s.j.flush()) // the rest stays in front of the store
		}
	}
	s.j.background.Wait() // a checkpoint reads it
	s.j.wal.file = file
	return cards
}

// What the index finds is what asking every entry finds, in the store and in front of
// it, whatever is combined, in the order that was asked for.
func TestTheIndexFindsWhatIsThere(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	chance := rand.New(rand.NewPCG(newSeed(t), 20))
	cards := manySales(s, 300, chance)
	var all []Entry
	for e, err := range s.j.Entries(Query{}) {
		s.must(err)
		all = append(all, e)
	}
	if len(all) != 300 {
		t.Fatalf("%d entries", len(all))
	}
	hits := 0
	for range 600 {
		q, card := drawQuery(chance, all)
		asked := q
		if card != "" {
			var err error
			asked, err = s.j.OfCard(q, Secret(card))
			s.must(err)
		}
		got, want := collect(t, s.j, asked), everyEntry(t, all, q, card, cards)
		if hits += len(got); !slices.Equal(got, want) {
			t.Fatalf("%+v, card %v: got %v, want %v", q, card != "", got, want)
		}
	}
	if hits < 600 {
		t.Errorf("only %d entries were found in all: this proves little", hits)
	}
	s.must(s.j.Compact()) // the index is made anew
	if got, want := collect(t, s.j, Query{STAN: 3}), everyEntry(t, all, Query{STAN: 3}, "", nil); !slices.Equal(got, want) {
		t.Errorf("after Compact: got %v, want %v", got, want)
	}
}

func drawQuery(chance *rand.Rand, all []Entry) (q Query, card string) {
	e := all[chance.IntN(len(all))]
	flip := func() bool { return chance.IntN(3) == 0 }
	q.Newest = flip()
	for range 2 {
		switch chance.IntN(9) {
		case 0:
			q.STAN = e.STAN
		case 1:
			q.RRN = e.RRN
		case 2:
			q.AmountMinor = e.Amount.Minor
		case 3:
			q.Since = e.BegunAt.Add(-time.Duration(chance.IntN(2)) * time.Hour)
		case 4:
			q.Until = e.BegunAt.Add(time.Duration(chance.IntN(3)) * time.Hour)
		case 5:
			q.Last4, q.Lane.Terminal = e.Last4, e.Lane.Terminal
		case 6:
			q.From, q.To = e.ID, e.ID+ID(chance.IntN(200))
		case 7:
			q.Status = []Status{e.Status}
		case 8:
			card = testPAN
		}
	}
	if flip() {
		q.Limit = 1 + chance.IntN(5)
	}
	return q, card
}

// An entry gets its RRN with its answer: it is found under it at once, after a
// checkpoint and after reopening, and under no other.
func TestAnEntryIsFoundUnderWhatItGotLater(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id := s.begin()
	s.must(s.j.flush()) // without an RRN
	s.must(s.j.Complete(id, approved))
	for _, then := range []func(){func() {}, func() { s.must(s.j.flush()) }, s.reopen} {
		then()
		if got := collect(t, s.j, Query{RRN: approved.RRN}); !slices.Equal(got, []ID{id}) {
			t.Errorf("found %v", got)
		}
		if got := collect(t, s.j, Query{RRN: "602001"}); len(got) != 0 { // the beginning of it
			t.Errorf("a part of it found %v", got)
		}
	}
}

// L11: a card is found without its number being anywhere, and not without the key.
func TestL11ACardIsFoundByItsToken(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	d := s.draft(lane1)
	d.PAN = Secret(testPAN)
	id, err := s.j.Begin(d)
	s.must(err)
	s.begin()
	s.must(s.j.flush())
	q, err := s.j.OfCard(Query{}, Secret(testPAN))
	s.must(err)
	if got := collect(t, s.j, q); !slices.Equal(got, []ID{id}) {
		t.Errorf("found %v, want %d", got, id)
	}
	wantNoCard(t, s.opts.Dir)
	for _, bad := range []string{"", "4111 1111", strings.Repeat("4", 20)} {
		_, err := s.j.OfCard(Query{}, Secret(bad))
		wantErr(t, "no card number", err, ErrInvalid)
		if bad != "" && strings.Contains(err.Error(), bad) {
			t.Error("the error shows what was given")
		}
	}
	s.close()
	s.opts.DeviceKey = nil
	s.open()
	_, err = s.j.OfCard(Query{}, Secret(testPAN))
	wantErr(t, "without a key", err, ErrKey)
}
