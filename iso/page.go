package iso

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/width"
)

// Page is the whole profile as one page for a person: what goes on the wire, what
// a reversal is made of, what each code means, and why; lines of at most 80
// columns. It is made from the profile alone and holds no card data. The reasons
// are in the language in which the profile file gives them.
func (p *Profile) Page(lang Language) string {
	s := &sheet{lang: lang}
	s.row([]int{0}, p.data.Name)
	s.row([]int{0}, strings.Repeat("=", columns(p.data.Name)))
	s.row([]int{0}, p.data.About)
	for _, section := range []func(*sheet){
		p.pageFraming, p.pageEncodings, p.pageMAC, p.pageTimers, p.pageTransactions, p.pageReversal, p.pageMatch,
		p.pageCodes, p.pageFields, p.pageCompose,
	} {
		section(s)
	}
	return s.String()
}

func (p *Profile) pageFraming(s *sheet) {
	f := p.data.Framing
	s.heading("Framing", "帧格式")
	s.pair("length", "长度", map[string]string{
		"binary2": s.lang.say("two bytes, binary, high byte first", "2字节二进制，高位在前"),
		"bcd2":    s.lang.say("two bytes, four BCD digits", "2字节，4位BCD数字"),
		"ascii4":  s.lang.say("four ASCII digits", "4位ASCII数字"),
	}[f.Length]+" ("+f.Length+")")
	if f.CountsItself {
		s.pair("counts", "计数范围", s.lang.say("itself and what follows it", "长度域本身及其后的内容"))
	} else {
		s.pair("counts", "计数范围", s.lang.say("what follows it", "其后的内容"))
	}
	s.pair("TPDU", "TPDU", s.orNone(f.TPDU))
	s.pair("header", "报文头", s.orNone(f.Header))
	most := strconv.Itoa(f.BytesMax)
	s.pair("at most", "最大长度", s.lang.say(most+" bytes, TPDU and header included", most+"字节，含TPDU和报文头"))
	if f.RequestDigit > 0 {
		digit := strconv.Itoa(f.RequestDigit)
		s.pair("host asks", "主机请求", s.lang.say("in digit "+digit+" of the header of an answer", "应答报文头第"+digit+"位"))
		for _, d := range slices.Sorted(maps.Keys(f.Requests)) {
			s.pair("", "", d+"  "+f.Requests[d])
		}
	}
	s.why(f.Why)
}

// encodingWords says what an encoding is. Its place in the file is the type's.
var encodingWords = map[string][2]string{
	"ascii":      {"ASCII, one byte a character", "ASCII，每字符1字节"},
	"ebcdic":     {"EBCDIC (code page 1047), one byte a character", "EBCDIC（代码页1047），每字符1字节"},
	"gbk":        {"GBK, one or two bytes a character", "GBK，每字符1或2字节"},
	"bcd":        {"two digits a byte, right, zero in front", "每字节2位数字，右靠，左补0"},
	"bcd-left":   {"two digits a byte, left, zero behind", "每字节2位数字，左靠，右补0"},
	"bcd-left-f": {"two digits a byte, left, F behind", "每字节2位数字，左靠，右补F"},
	"track":      {"two characters a byte, left, zero behind, D for =", "每字节2个字符，左靠，右补0，=用D表示"},
	"track-f":    {"two characters a byte, left, F behind, D for =", "每字节2个字符，左靠，右补F，=用D表示"},
	"binary":     {"bytes as they are", "原样的字节"},
	"hex":        {"two hex characters a byte, ASCII", "每字节2个十六进制字符，ASCII"},
	"ebcdic-hex": {"two hex characters a byte, EBCDIC", "每字节2个十六进制字符，EBCDIC"},
	"sign-bcd":   {"C or D as a character, then two digits a byte", "字符C或D，其后每字节2位数字"},
}

func (p *Profile) pageEncodings(s *sheet) {
	d := &p.data
	s.heading("Encodings", "编码")
	row := func(en, zh, encoding string) {
		words := encodingWords[encoding]
		s.row([]int{2, 23, 35}, s.lang.say(en, zh), encoding, s.lang.say(words[0], words[1]))
	}
	row("message type", "报文类型", d.MTI)
	row("bitmap", "位图", d.Bitmap)
	for _, kind := range []struct{ name, en, zh string }{
		{"n", "n    digits", "n    数字"},
		{"an", "an   letters, digits", "an   字母、数字"},
		{"ans", "ans  text", "ans  文本"},
		{"z", "z    tracks", "z    磁道"},
		{"b", "b    opaque data", "b    二进制数据"},
		{"x+n", "x+n  signed amounts", "x+n  带符号金额"},
	} {
		row(kind.en, kind.zh, d.Encodings[kind.name])
	}
	s.row([]int{2, 23, 35}, s.lang.say("lengths LL and LLL", "长度LL和LLL"), d.Encodings["length"], map[string]string{
		"ascii": s.lang.say("2 and 3 ASCII digits", "2位和3位ASCII数字"), "ebcdic": s.lang.say("2 and 3 EBCDIC digits", "2位和3位EBCDIC数字"),
		"bcd": s.lang.say("1 and 2 bytes of BCD", "1字节和2字节BCD"), "binary": s.lang.say("1 and 2 bytes, binary", "1字节和2字节二进制"),
	}[d.Encodings["length"]])
	s.row([]int{2, 23}, s.lang.say("bitmaps, at most", "位图最多"), strconv.Itoa(d.Bitmaps))
	s.why(d.EncodingsWhy)
}

func (p *Profile) pageMAC(s *sheet) {
	s.heading("Message authentication (MAC)", "报文鉴别（MAC）")
	m := p.data.MAC
	if m == nil {
		s.row([]int{2}, s.lang.say("none", "无"))
		return
	}
	s.pair("in DE", "所在域", numbers(m.Elements))
	s.pair("algorithm", "算法", string(m.Algorithm))
	s.pair("form", "形式", map[string]string{
		"hex8":    s.lang.say("the first eight hex characters, as characters", "前8个十六进制字符，按字符放置"),
		"binary4": s.lang.say("the first four bytes, then zeros", "前4字节，其后补0"),
		"binary8": s.lang.say("eight bytes", "8字节"),
	}[m.Form]+" ("+m.Form+")")
	var without []string
	for _, t := range m.Without {
		without = append(without, string(t))
	}
	s.pair("without", "不带MAC", s.orNone(strings.Join(without, ", ")))
	words := map[string]string{
		"approve": s.lang.say("an approval", "批准"), "decline": s.lang.say("a decline", "拒绝"),
		"confirm": s.lang.say("a confirmed reversal", "冲正确认"), "not-found": s.lang.say("original not found", "找不到原交易"),
		"refuse": s.lang.say("a refused reversal", "冲正被拒"), "other": s.lang.say("any other answer", "其他应答"),
	}
	for _, kind := range macNeeds {
		must := s.lang.say("needs none; one that is there must fit", "可以没有；有则必须正确")
		if m.Needed[kind] == "yes" {
			must = s.lang.say("must have one", "必须有")
		}
		s.row([]int{2, 24}, words[kind], must)
	}
	s.why(m.Why)
}

func (p *Profile) pageTimers(s *sheet) {
	s.heading("Timers and bounds", "定时器和次数")
	t := p.Timers()
	row := func(name, value, en, zh string) { s.row([]int{2, 18, 24}, name, value, s.lang.say(en, zh)) }
	row("answerWithin", briefly(t.AnswerWithin), "from the last byte written to the answer", "从发完最后一个字节到收到应答")
	row("settleWithin", briefly(t.SettleWithin), "how long a new sale may wait for what is owed", "新交易等待待冲正完成的时间")
	row("completeWithin", briefly(t.CompleteWithin), "an approved sale nobody completed is reversed after this", "已批准而终端未完成的交易，过此时间即冲正")
	row("overtakenWindow", briefly(t.OvertakenWindow), "\"original not found\" this soon may mean that the reversal was faster than its original: it is asked again", "此时间内的“找不到原交易”可能是冲正先于原交易到达，须再问")
	row("burst", strconv.Itoa(t.Burst), "attempts back to back", "连续尝试次数")
	row("backoffFirst", briefly(t.BackoffFirst), "the first wait after them; each one doubles", "其后的首次等待，逐次加倍")
	row("backoffMax", briefly(t.BackoffMax), "the longest wait", "最长等待")
	row("refusalsMax", strconv.Itoa(t.RefusalsMax), "refusals after which a person must act", "拒绝达此次数后须人工处理")
	s.why(p.data.Timers.Why)
}

// briefly is a duration without the zeros at its end: 3m, not 3m0s.
func briefly(d time.Duration) string {
	text := d.String()
	if short, ok := strings.CutSuffix(text, "m0s"); ok {
		text = short + "m"
	}
	if short, ok := strings.CutSuffix(text, "h0m"); ok {
		text = short + "h"
	}
	return text
}

func (p *Profile) pageTransactions(s *sheet) {
	s.heading("Transactions", "交易")
	s.row([]int{0}, s.lang.say("What becomes of one whose outcome is unknown:", "结果不明时的处理："))
	for _, r := range []struct{ recovery, en, zh string }{
		{string(Reverse), "it is undone", "冲正"},
		{string(Advise), "it is repeated until the host acknowledges it", "重发，直到主机确认"},
		{string(Resume), "the batch goes on at this step", "从该步骤继续批处理"},
		{string(Nothing), "it is asked again by hand, or lapses", "不处理，可人工再次发起"},
	} {
		s.row([]int{2, 12}, r.recovery, s.lang.say(r.en, r.zh))
	}
	s.WriteByte('\n')
	table := []int{0, 18, 23, 30, 36, 45}
	s.row(table, s.lang.say("type", "类型"), "MTI", "DE 3", "DE 25", s.lang.say("unknown", "不明时"), s.lang.say("what it is", "说明"))
	for _, t := range p.TxTypes() {
		tx := p.data.Transactions[t]
		s.row(table, string(t), string(tx.MTI), dash(tx.Processing), dash(tx.Condition), string(tx.Recovery), s.lang.say(tx.About, tx.ZH))
		s.note("must", "必备", numbers(tx.Must))
		s.note("one of", "至少一个", numbers(tx.OneOf))
		s.note("may", "可选", numbers(tx.May))
		s.note("repeat", "重发", string(tx.Repeat))
		for _, de := range slices.Sorted(maps.Keys(tx.Set)) {
			s.note("set", "设置", strconv.Itoa(de)+" = "+tx.Set[de])
		}
		s.note("why", "原因", tx.Why)
	}
}

func (p *Profile) pageReversal(s *sheet) {
	r := p.data.Reversal
	s.heading("Reversal", "冲正")
	s.pair("MTI", "MTI", string(r.MTI))
	if r.Repeat == "" {
		s.pair("repeat", "重发MTI", s.lang.say("the same MTI again", "与首次相同"))
	} else {
		s.pair("repeat", "重发MTI", string(r.Repeat))
	}
	if p.NewSTAN() {
		s.pair("STAN", "流水号", s.lang.say("one of its own, the same for every repeat", "新流水号，重发时不变"))
	} else {
		s.pair("STAN", "流水号", s.lang.say("that of the original", "与原交易相同"))
	}
	s.pair("copied DE", "复制的域", numbers(r.Copy))
	for _, de := range slices.Sorted(maps.Keys(r.Set)) {
		s.pair("set DE", "设置的域", strconv.Itoa(de)+" = "+r.Set[de])
	}
	if r.AuthCode != 0 {
		s.pair("auth code", "授权码", s.lang.say(fmt.Sprintf("DE %d, when an approval was seen", r.AuthCode), fmt.Sprintf("域%d，收到过批准应答时", r.AuthCode)))
	}
	s.pair("chip tags", "IC卡标签", s.orNone(strings.Join(r.ChipTags, ", ")))
	s.pair("reason", "原因", s.lang.say(fmt.Sprintf("DE %d, by cause:", r.Reason), fmt.Sprintf("域%d，按起因：", r.Reason)))
	for _, c := range Causes() {
		zh := "" // in English a cause is called what its name says
		if s.lang == Chinese {
			zh = c.in(s.lang)
		}
		s.row([]int{14, 20, 35}, r.Reasons[c], string(c), zh)
	}
	s.why(r.Why)
}

func (p *Profile) pageMatch(s *sheet) {
	s.heading("An answer belongs to its request", "应答与请求的匹配")
	list := func(elements []int) string {
		var named []string
		for _, de := range slices.Sorted(slices.Values(elements)) {
			f := p.data.Fields[de]
			named = append(named, strconv.Itoa(de)+" "+s.lang.say(f.Name, f.ZH))
		}
		return strings.Join(named, s.lang.say("; ", "；"))
	}
	s.pair("always", "必须一致", list(p.data.Match.Always))
	s.pair("if present", "有则一致", s.orNone(list(p.data.Match.WhenPresent)))
	s.why(p.data.Match.Why)
}

func (p *Profile) pageCodes(s *sheet) {
	s.heading("Response codes (DE 39)", "应答码（域39）")
	s.row([]int{0}, s.lang.say("What a code means on the answer to a reversal:", "应答码对冲正的含义："))
	for _, c := range []struct{ class, en, zh string }{
		{string(Confirm), "the host has undone it", "主机已冲正"},
		{string(NotFound), "the host has no such original", "主机没有该原交易"},
		{string(Retry), "the host could not do it now: again later", "主机暂不能处理，稍后重试"},
		{string(Renew), "the host wants a new sign-on, then the reversal again", "须重新签到，然后重试"},
		{string(Refuse), "the host will not", "主机拒绝"},
	} {
		s.row([]int{2, 13}, c.class, s.lang.say(c.en, c.zh))
	}
	for _, c := range []struct {
		class  RequestClass
		en, zh string
	}{
		{Approve, "the amount asked for is approved", "按请求金额批准"},
		{Partial, "approved for the amount of the answer", "按应答中的金额批准"},
		{Decline, "the customer is not charged", "拒绝，持卡人未被扣款"},
		{Doubt, "may have charged the customer: reverse", "可能已扣款，须冲正"},
	} {
		s.WriteByte('\n')
		s.row([]int{0}, string(c.class)+": "+s.lang.say(c.en, c.zh))
		for _, code := range slices.Sorted(maps.Keys(p.data.Codes)) {
			if known := p.data.Codes[code]; known.Request == c.class {
				s.row([]int{2, 9, 20}, code, string(known.Reversal), s.lang.say(known.Name, known.ZH))
			}
		}
		if c.class == Doubt {
			s.row([]int{2, 9, 20}, s.lang.say("other", "其他"), string(Refuse), s.lang.say("every code that is not listed", "所有未列出的应答码"))
		}
	}
	s.why(p.data.CodesWhy)
}

func (p *Profile) pageFields(s *sheet) {
	s.heading("Data elements", "数据域")
	table := []int{0, 4, 48, 53, 60, 67}
	s.row(table, " DE", s.lang.say("name", "名称"), s.lang.say("type", "类型"), s.lang.say("length", "长度"), s.lang.say("prefix", "前缀"), s.lang.say("encoding", "编码"))
	for _, de := range slices.Sorted(maps.Keys(p.data.Fields)) {
		f := p.data.Fields[de]
		s.row(table, fmt.Sprintf("%3d", de), s.lang.say(f.Name, f.ZH), f.Type, fmt.Sprintf("%6d", f.Length), dash(f.Prefix), p.encodingOf(f))
		for i, part := range f.Parts {
			s.row([]int{6, 53}, fmt.Sprintf("%d.%d %s", de, i+1, s.lang.say(part.Name, part.ZH)), fmt.Sprintf("%6d", part.Length))
		}
		s.note("why", "原因", f.Why)
	}
	s.why(p.data.FieldsWhy)
}

// encodingOf is the encoding of a data element as compileFields chooses it.
func (p *Profile) encodingOf(f fieldData) string {
	switch name := p.data.Encodings[f.Type]; {
	case f.Encoding != "":
		return f.Encoding
	case f.Type == "n" && name == "bcd" && f.Prefix != "" && f.Prefix != "rest":
		return "bcd-left"
	default:
		return name
	}
}

func (p *Profile) pageCompose(s *sheet) {
	s.heading("How data elements are made from a request", "数据域的组成")
	for _, de := range slices.Sorted(maps.Keys(p.data.Compose)) {
		s.row([]int{0, 4}, fmt.Sprintf("%3d", de), p.data.Compose[de])
	}
	s.why(p.data.ComposeWhy)
}

// numbers lists data elements in ascending order.
func numbers(elements []int) string {
	var list []string
	for _, de := range slices.Sorted(slices.Values(elements)) {
		list = append(list, strconv.Itoa(de))
	}
	return strings.Join(list, " ")
}

// dash stands for a value that there is not.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// sheetColumns is how wide a terminal is.
const sheetColumns = 80

// sheet is a text in columns under way.
type sheet struct {
	strings.Builder
	lang Language
}

// row writes cells that begin at the given columns. A cell that does not fit goes
// on in the line below; no line is wider than the sheet or ends in a space.
func (s *sheet) row(starts []int, cells ...string) {
	parts := make([][]string, len(cells))
	lines := 0
	for i, cell := range cells {
		end := sheetColumns
		if i+1 < len(starts) {
			end = starts[i+1] - 1
		}
		parts[i] = wrap(cell, end-starts[i])
		lines = max(lines, len(parts[i]))
	}
	for n := range lines {
		line := ""
		for i, part := range parts {
			if n < len(part) && part[n] != "" {
				line += strings.Repeat(" ", starts[i]-columns(line)) + part[n]
			}
		}
		s.WriteString(strings.TrimRight(line, " ") + "\n")
	}
}

func (s *sheet) heading(en, zh string) {
	title := s.lang.say(en, zh)
	s.WriteString("\n" + title + "\n" + strings.Repeat("-", columns(title)) + "\n")
}

// pair is one line of a section: what, and its value.
func (s *sheet) pair(en, zh, value string) { s.row([]int{2, 14}, s.lang.say(en, zh), value) }

// why gives a section's reason, if the profile has one.
func (s *sheet) why(reason string) {
	if reason != "" {
		s.row([]int{2, 7}, s.lang.say("why", "原因"), reason)
	}
}

// note is a line under a line of a table, if there is something to say.
func (s *sheet) note(en, zh, value string) {
	if value != "" {
		s.row([]int{4, 13}, s.lang.say(en, zh), value)
	}
}

func (s *sheet) orNone(value string) string {
	if value == "" {
		return s.lang.say("none", "无")
	}
	return value
}

// columns is how much room a text takes on a terminal, where the characters of
// Chinese take two columns each.
func columns(s string) int {
	n := 0
	for _, r := range s {
		n += runeColumns(r)
	}
	return n
}

func runeColumns(r rune) int {
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// wrap breaks a text into lines of at most room columns: at spaces, between the
// characters of Chinese, and in the middle of a word that has no room in any line.
// What is not printable becomes a question mark: a profile may come from anybody.
func wrap(s string, room int) []string {
	s = strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if columns(s) <= room && !strings.Contains(s, "\n") {
		return []string{s}
	}
	var lines []string
	line := ""
	for _, word := range strings.Fields(s) {
		gap := " "
		for _, piece := range pieces(word, room) {
			if line != "" && columns(line)+len(gap)+columns(piece) > room {
				lines, line = append(lines, line), ""
			}
			if line != "" {
				line += gap
			}
			line += piece
			gap = ""
		}
	}
	return append(lines, line)
}

// Marks that may not begin a line, and such as may not end one.
const (
	closing = ",.;:)!?，。；：）、！？〉》」』”"
	opening = "(（〈《「『“"
)

// pieces cuts a word where a line may end.
func pieces(word string, room int) []string {
	var list []string
	piece, last := "", rune(0)
	for _, r := range word {
		between := piece != "" && (runeColumns(r) == 2 || runeColumns(last) == 2)
		stuck := strings.ContainsRune(closing, r) || strings.ContainsRune(opening, last)
		if piece != "" && (columns(piece)+runeColumns(r) > room || (between && !stuck)) {
			list, piece = append(list, piece), ""
		}
		piece += string(r)
		last = r
	}
	return append(list, piece)
}
