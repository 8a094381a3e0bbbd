package iso

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Language is one that Describe and Page can speak.
type Language string

// The languages. Anything else, the zero value included, is taken for English.
const (
	English Language = "en"
	Chinese Language = "zh"
)

// ParseLanguage reads a language as people and locales name it: "en", "zh",
// "zh_CN.UTF-8", "en_US"; "C" and "POSIX" are English. The error wraps ErrInvalid
// and does not repeat what was given.
func ParseLanguage(s string) (Language, error) {
	name := s
	if end := strings.IndexAny(s, "_-.@"); end >= 0 {
		name = s[:end]
	}
	switch strings.ToLower(name) {
	case "en", "c", "posix":
		return English, nil
	case "zh":
		return Chinese, nil
	}
	return "", fmt.Errorf("%w: the language must be en or zh", ErrInvalid)
}

// say chooses between the two languages.
func (l Language) say(en, zh string) string {
	if l == Chinese && zh != "" {
		return zh
	}
	return en
}

// Where the columns of Describe begin.
const (
	nameColumn     = 4
	valueColumnMax = 50 // a longer name goes over two lines
)

// Describe is the message as text that a technician can read: the MTI with its
// meaning, then of each data element the number, the name that the profile gives
// it, and its value; lines of at most 80 columns. Card data is masked as
// Message.String masks it (L11), and what is hidden shows its length only. Of DE
// 60 and 61 the parts are shown where the profile lays them out as digits, of an
// amount its currency, of a response code its name, of a reversal's reason the
// causes that it stands for.
func (p *Profile) Describe(m *Message, lang Language) string {
	if m == nil || m.hidden == nil {
		return lang.say("no message", "无报文") + "\n"
	}
	var lines []described
	for _, de := range m.Fields() {
		lines = append(lines, p.describeField(m, de, lang)...)
	}
	value := 0
	for _, line := range lines {
		value = max(value, nameColumn+columns(line.name)+2)
	}
	value = min(value, valueColumnMax)
	s := &sheet{lang: lang}
	s.row([]int{0, nameColumn}, "MTI", describeMTI(m.MTI(), lang))
	for _, line := range lines {
		if n := columns(line.value); line.meaning != "" && n <= 12 { // as an amount has
			s.row([]int{0, nameColumn, value, value + n + 2}, line.number, line.name, line.value, line.meaning)
			continue
		}
		s.row([]int{0, nameColumn, value}, line.number, line.name, strings.TrimRight(line.value+"  "+line.meaning, " "))
	}
	return s.String()
}

// described is one line of Describe, not laid out yet.
type described struct{ number, name, value, meaning string }

// describeField is the line of one data element, and those of its parts.
func (p *Profile) describeField(m *Message, de int, lang Language) []described {
	f, known := p.data.Fields[de]
	name := lang.say(f.Name, f.ZH)
	if !known {
		name = lang.say("not part of this profile", "本规范未定义")
	}
	line := described{number: fmt.Sprintf("%3d", de), name: name}
	value := m.Text(de)
	parts := p.describeParts(m, de, lang)
	switch {
	case parts != nil:
		line.value = lengthOf(f, value, lang)
	case !legible(m, de, value):
		line.value = lang.say(hidden, "〈已隐藏〉") + " " + lengthOf(f, value, lang)
	case de == 2:
		line.value = maskPAN(value)
	default:
		line.value, line.meaning = value, p.meaning(m, de, value, lang)
	}
	return append([]described{line}, parts...)
}

// describeParts are the lines of the parts of DE 60 or 61; nil where they may not
// be shown or the profile does not lay them out. They are numbers of batches,
// traces and terminals and hold no card data. A value or a part that could be a
// PAN all the same hides all of them, and what follows the last part that the
// profile knows stays hidden always.
func (p *Profile) describeParts(m *Message, de int, lang Language) []described {
	f, value := p.data.Fields[de], m.Text(de)
	if (de != 60 && de != 61) || f.Type != "n" || len(f.Parts) == 0 || value == "" {
		return nil
	}
	if !digits(value) || looksLikePAN(value) || m.ownCardIn(value) {
		return nil
	}
	var lines []described
	for i, part := range f.Parts {
		text := value[:min(part.Length, len(value))]
		value = value[len(text):]
		if looksLikePAN(text) {
			return nil
		}
		if text != "" {
			lines = append(lines, described{name: fmt.Sprintf("%d.%d %s", de, i+1, lang.say(part.Name, part.ZH)), value: text})
		}
	}
	if value != "" {
		rest := lang.say(hidden, "〈已隐藏〉") + " " + lengthOf(f, value, lang)
		lines = append(lines, described{name: fmt.Sprintf("%d.%d %s", de, len(f.Parts)+1, lang.say("the rest", "其余")), value: rest})
	}
	return lines
}

// legible reports whether the masked form of a value says more than that it is
// hidden. Beyond what maskField hides, nothing is shown that a terminal could
// take for a command, or that repeats the card of the same message.
func legible(m *Message, de int, value string) bool {
	if !printable(value) || maskField(de, value) == hidden {
		return false
	}
	return de == 2 || !m.ownCardIn(value)
}

// looksLikePAN is the test of maskField for a PAN where none belongs.
func looksLikePAN(value string) bool {
	return len(value) >= 13 && len(value) <= 19 && digits(value) && luhn(value)
}

// cardRun is how many digits in a row tell a card: the shortest PAN has as many.
const cardRun = 12

// ownCardIn reports whether a value repeats the card number of its message, as
// DE 2, an extended PAN or a track gives it, wherever in the value it stands.
func (m *Message) ownCardIn(value string) bool {
	for _, de := range []int{2, 34, 35, 36, 45} {
		card, _ := m.Field(de)
		for i := 0; i+cardRun <= len(card); i++ {
			run := card[i : i+cardRun]
			if digits(run) && strings.Trim(run, "0") != "" && strings.Contains(value, run) {
				return true
			}
		}
	}
	return false
}

// lengthOf says how long a value is that is not shown.
func lengthOf(f fieldData, value string, lang Language) string {
	n, en, zh := utf8.RuneCountInString(value), "character", "个字符"
	switch {
	case f.Type == "b":
		n, en, zh = len(value)/2, "byte", "字节"
	case f.Type == "n":
		en, zh = "digit", "位数字"
	}
	if n != 1 {
		en += "s"
	}
	return lang.say(strconv.Itoa(n)+" "+en, strconv.Itoa(n)+zh)
}

// meaning says what a value stands for; "" when there is nothing to say.
func (p *Profile) meaning(m *Message, de int, value string, lang Language) string {
	r := p.data.Reversal
	switch {
	case de == r.Reason && m.MTI().Reversal() && m.MTI().Answer() != "":
		var causes []string
		for _, c := range Causes() {
			if r.Reasons[c] == value {
				causes = append(causes, c.in(lang))
			}
		}
		return strings.Join(causes, lang.say(", ", "、"))
	case de == 39:
		if c, ok := p.data.Codes[value]; ok {
			return lang.say(c.Name, c.ZH)
		}
		return lang.say("not listed by this profile: a doubt, or a refusal", "本规范未列出：按结果不明或拒绝处理")
	case de == 4 || de == 49:
		currency, err := LookupCurrency(m.Text(49))
		if err != nil {
			return ""
		}
		if de == 49 {
			return currency.Alpha
		}
		if amount, err := ParseDE4(value); err == nil {
			return currency.Format(amount)
		}
	}
	return ""
}

// in names a cause for a person.
func (c Cause) in(lang Language) string {
	zh := map[Cause]string{
		NoAnswer: "未收到应答", LineLost: "线路中断", Undecodable: "应答无法解析", WrongMAC: "MAC校验错", UnknownCode: "应答码不明",
		Cancelled: "客户取消", CardDeclined: "卡片拒绝", NotCompleted: "终端未完成", NotRecorded: "终端未能保存", Restart: "终端重启",
	}[c]
	return lang.say(strings.ReplaceAll(strings.Replace(string(c), "wrong-mac", "wrong-MAC", 1), "-", " "), zh)
}

// mtiWords are the second and the third digit of a message type.
var mtiWords = map[Language]struct{ class, function []string }{
	English: {
		[]string{"reserved", "authorization", "financial", "file action", "reversal", "reconciliation", "administrative", "fee collection", "network management", "reserved"},
		[]string{"request", "answer", "advice", "advice answer", "notification", "notification answer", "reserved", "reserved", "reserved", "reserved"},
	},
	Chinese: {
		[]string{"保留", "授权", "金融", "文件操作", "冲正", "对账", "管理", "收费", "网络管理", "保留"},
		[]string{"请求", "应答", "通知", "通知应答", "通告", "通告应答", "保留", "保留", "保留", "保留"},
	},
}

// mtiVersions is the first digit of a message type.
var mtiVersions = map[byte]string{'0': "ISO 8583:1987", '1': "ISO 8583:1993", '2': "ISO 8583:2003"}

// describeMTI is a message type with the meaning of its four digits: version,
// class, function, and origin, of which an odd one is a repeat.
func describeMTI(mti MTI, lang Language) string {
	if _, err := ParseMTI(string(mti)); err != nil {
		return lang.say(hidden+" not four digits", "〈已隐藏〉 不是四位数字")
	}
	words := mtiWords[Language(lang.say(string(English), string(Chinese)))]
	version := mtiVersions[mti[0]]
	if version == "" {
		version = lang.say("version "+string(mti[:1]), "版本"+string(mti[:1]))
	}
	repeat := mti[3] < '6' && mti[3]%2 == 1
	class, function := words.class[mti[1]-'0'], words.function[mti[2]-'0']
	if lang == Chinese {
		if repeat {
			function += "，重发"
		}
		return string(mti) + "  " + class + function + "（" + version + "）"
	}
	if repeat {
		function += ", repeat"
	}
	return string(mti) + "  " + class + " " + function + " (" + version + ")"
}
