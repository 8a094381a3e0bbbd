package iso

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const unionPayTest = "6212142000000000012"

func everyProfile(t *testing.T) []*Profile {
	t.Helper()
	var list []*Profile
	for _, name := range ProfileNames() {
		p, err := LoadProfile(name)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

// unionPaySale is a sale with a swiped card and a PIN.
func unionPaySale(t *testing.T) (*Profile, *Message) {
	t.Helper()
	p, err := LoadProfile("unionpay")
	if err != nil {
		t.Fatal(err)
	}
	r := saleRequest(t)
	if r.PAN, err = ParsePAN(unionPayTest); err != nil {
		t.Fatal(err)
	}
	if r.Currency, err = LookupCurrency("CNY"); err != nil {
		t.Fatal(err)
	}
	r.EntryMode, r.Track2, r.PINBlock = "021", NewSecret(unionPayTest+"=29121010000000000"), NewSecret(pinBlock)
	return p, build(t, p, r)
}

func TestDescribeInEnglish(t *testing.T) {
	p, m := unionPaySale(t)
	want := `MTI 0200  financial request (ISO 8583:1987)
  2 primary account number                     ***************0012
  3 processing code                            000000
  4 amount, transaction                        000000001250  12.50 CNY
 11 system trace audit number                  000007
 14 date, expiration (YYMM)                    <hidden> 4 digits
 22 point of service entry mode                021
 25 point of service condition code            00
 26 point of service PIN capture code          <hidden> 2 digits
 35 track 2 data                               <hidden> 37 characters
 41 card acceptor terminal identification      TERM01
 42 card acceptor identification code          MERCHANT0000001
 49 currency code, transaction                 156  CNY
 52 personal identification number data        <hidden> 8 bytes
 53 security related control information       <hidden> 16 digits
 60 transaction type, batch and terminal data  14 digits
    60.1 transaction type                      22
    60.2 batch                                 000001
    60.3 network code                          000
    60.4 read capability                       5
    60.5 chip condition                        0
    60.6 partial amount                        1
`
	if got := p.Describe(m, English); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if p.Describe(m, "") != want {
		t.Error("no language is not English")
	}
}

func TestDescribeInChinese(t *testing.T) {
	p, m := unionPaySale(t)
	want := `MTI 0200  金融请求（ISO 8583:1987）
  2 主账号                 ***************0012
  3 交易处理码             000000
  4 交易金额               000000001250  12.50 CNY
 11 受卡方系统跟踪号       000007
 14 卡有效期               〈已隐藏〉 4位数字
 22 服务点输入方式码       021
 25 服务点条件码           00
 26 服务点PIN获取码        〈已隐藏〉 2位数字
 35 2磁道数据              〈已隐藏〉 37个字符
 41 受卡机终端标识码       TERM01
 42 受卡方标识码           MERCHANT0000001
 49 交易货币代码           156  CNY
 52 个人标识码数据         〈已隐藏〉 8字节
 53 安全控制信息           〈已隐藏〉 16位数字
 60 自定义域               14位数字
    60.1 交易类型码        22
    60.2 批次号            000001
    60.3 网络管理信息码    000
    60.4 终端读取能力      5
    60.5 IC卡条件代码      0
    60.6 支持部分扣款标志  1
`
	if got := p.Describe(m, Chinese); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// L11: under whatever number a card number or a track stands once more, and
// whatever stands around it, no description under any profile shows more of it
// than the last four digits; nor a PIN block, an expiry date or chip data.
func TestL11DescribeShowsNoCard(t *testing.T) {
	const (
		pan   = "4012888888881881" // a published test card
		track = pan + "=29121010000012345678"
		chip  = "5A08" + pan + "9F26080123456789ABCDEF"
	)
	secrets := []string{"12345678", "TEST/CARD", "2912", "9F26", "CDEF", "\x1b"}
	for i := 0; i+5 <= len(pan); i++ {
		secrets = append(secrets, pan[i:i+5])
	}
	for _, p := range everyProfile(t) {
		for de := 2; de <= 128; de++ {
			for _, value := range []string{
				pan, "00" + pan, pan + "00", "22000001" + pan, pan[:15], pan[1:], track, "99" + track,
				"B" + pan + "^TEST/CARD^2912", chip, "\x1b[2J" + pan, pan + "\n", strings.Repeat(pan, 4),
			} {
				m := NewMessage("0200")
				for at, card := range map[int]string{2: pan, 14: "2912", 35: track, 52: "0123456789ABCDEF", 55: chip, de: value} {
					m.Set(at, card)
				}
				for _, lang := range []Language{English, Chinese} {
					got := p.Describe(m, lang)
					for _, secret := range secrets {
						if strings.Contains(got, secret) {
							t.Fatalf("%s, %s: %d characters in DE %d show card data", p.Name(), lang, len(value), de)
						}
					}
				}
			}
		}
	}
}

// Nothing that Message.String hides is shown, but for the parts that a profile
// lays out as digits.
func TestL11DescribeHidesWhatStringHides(t *testing.T) {
	for _, p := range everyProfile(t) {
		for de, f := range p.data.Fields {
			if f.Type == "n" && len(f.Parts) > 0 && (de == 60 || de == 61) {
				continue
			}
			m := NewMessage("0200")
			m.Set(de, "73519")
			if got := p.Describe(m, English); strings.Contains(got, "73519") != strings.Contains(m.String(), "73519") {
				t.Errorf("%s, DE %d: described as\n%sprinted as %v", p.Name(), de, got, m)
			}
		}
	}
}

func TestL11PartsAreHiddenWithAPAN(t *testing.T) {
	p, err := LoadProfile("unionpay")
	if err != nil {
		t.Fatal(err)
	}
	describe := func(p *Profile, de int, value, pan string) string {
		m := NewMessage("0220")
		m.Set(de, value)
		if pan != "" {
			m.Set(2, pan)
		}
		return p.Describe(m, English)
	}
	if got := describe(p, 61, "0000010000071123", ""); !strings.Contains(got, "61.2 original trace number  000007\n") || !strings.Contains(got, "61 original message            16 digits\n") {
		t.Errorf("an original message:\n%s", got)
	}
	for scene, got := range map[string]string{
		"a PAN instead of parts":     describe(p, 61, visaTest, ""),
		"the card of the message":    describe(p, 60, "22000001"+visaTest, visaTest),
		"characters, not digits":     describe(p, 60, "22000001x00", ""),
		"an extended PAN among them": describe(p, 61, "000001"+visaTest[:13]+"0000000000", visaTest),
	} {
		if strings.Contains(got, "60.1") || strings.Contains(got, "61.1") || !strings.Contains(got, hidden) || strings.Contains(got, visaTest[:12]) {
			t.Errorf("%s:\n%s", scene, got)
		}
	}
	if got := describe(p, 60, "2200000100050100077", ""); !strings.Contains(got, "60.7 account type                          000\n") ||
		!strings.Contains(got, "60.8 the rest                              <hidden> 2 digits\n") || strings.Contains(got, "77") {
		t.Errorf("digits that the profile does not know:\n%s", got)
	}
	if got := describe(p, 53, "2610000000000001", ""); !strings.Contains(got, "<hidden> 16 digits\n") || strings.Contains(got, "53.1") {
		t.Errorf("parts of what is hidden:\n%s", got)
	}
	if got := describe(p, 41, "TERM\x1b01", ""); !strings.Contains(got, "<hidden> 7 characters\n") || strings.Contains(got, "TERM") {
		t.Errorf("a value that is no text:\n%s", got)
	}
	own, err := parseProfile([]byte(`{"base": "unionpay", "schema": 1, "name": "own", "fields": {"61": {"length": 29,
		"parts": [{"name": "batch", "length": 6}, {"name": "somebody's idea", "length": 16}]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := describe(own, 61, "000001"+visaTest, ""); strings.Contains(got, "61.1") || strings.Contains(got, visaTest[:12]) {
		t.Errorf("a part that is a PAN:\n%s", got)
	}
}

func TestDescribeKeepsToTheTerminal(t *testing.T) {
	for _, p := range everyProfile(t) {
		for _, lang := range []Language{English, Chinese} {
			for _, value := range []string{"1", strings.Repeat("7 ", 100), strings.Repeat("x", 200), "银联", "trailing   ", "a\nb", ""} {
				m := NewMessage("0200")
				for de := 2; de <= 128; de++ {
					m.Set(de, value)
				}
				keepsToTheTerminal(t, p.Describe(m, lang), p.Name())
			}
		}
	}
}

// keepsToTheTerminal: 80 columns, and no line that ends in a space.
func keepsToTheTerminal(t *testing.T, text, scene string) {
	t.Helper()
	for _, line := range strings.Split(text, "\n") {
		if n := columns(line); n > 80 || strings.TrimRight(line, " ") != line {
			t.Errorf("%s: %d columns: %q", scene, n, line)
		}
	}
}

func TestDescribeSpeaksChineseNames(t *testing.T) {
	for _, p := range everyProfile(t) {
		m := NewMessage("0200")
		for de := range p.data.Fields {
			m.Set(de, "0")
		}
		got := p.Describe(m, Chinese)
		for de, f := range p.data.Fields {
			if f.ZH == "" {
				t.Errorf("%s: DE %d has no Chinese name", p.Name(), de)
			}
			if !strings.Contains(got, fmt.Sprintf("%3d %s", de, f.ZH)) {
				t.Errorf("%s: DE %d is not called %s", p.Name(), de, f.ZH)
			}
			for i, part := range f.Parts {
				if part.ZH == "" {
					t.Errorf("%s: DE %d.%d has no Chinese name", p.Name(), de, i+1)
				}
			}
		}
	}
}

func TestDescribeSaysWhatAValueMeans(t *testing.T) {
	unionpay, _ := unionPaySale(t)
	iso93, err := LoadProfile("iso93")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		scene  string
		p      *Profile
		mti    MTI
		de     int
		value  string
		en, zh string
	}{
		{"a response code", unionpay, "0210", 39, "51", "51  not sufficient funds", "51  可用余额不足"},
		{"the answer to a reversal", unionpay, "0410", 39, "25", "25  unable to locate original transaction", "25  找不到原始交易"},
		{"an unlisted code", unionpay, "0210", 39, "ZZ", "ZZ  not listed by this profile", "ZZ  本规范未列出"},
		{"the reason of a reversal", unionpay, "0400", 39, "98", "98  no answer, line lost, restart", "98  未收到应答、线路中断、终端重启"},
		{"a reason in DE 25", iso93, "1421", 25, "4013", "4013  card declined", "4013  卡片拒绝"},
		{"an action code", iso93, "1210", 39, "116", "116  not sufficient funds", "116  余额不足"},
		{"an amount without a currency", unionpay, "0200", 4, "000000001250", "000000001250\n", "000000001250\n"},
		{"an unknown currency", unionpay, "0200", 49, "999", "999\n", "999\n"},
		{"the processing code as it is", unionpay, "0200", 3, "200000", "200000\n", "200000\n"},
		{"a field that is not of the profile", unionpay, "0200", 90, "1", "not part of this profile", "本规范未定义"},
	} {
		m := NewMessage(c.mti)
		m.Set(c.de, c.value)
		if got := c.p.Describe(m, English); !strings.Contains(got, c.en) {
			t.Errorf("%s:\n%s", c.scene, got)
		}
		if got := c.p.Describe(m, Chinese); !strings.Contains(got, c.zh) {
			t.Errorf("%s:\n%s", c.scene, got)
		}
	}
	m := NewMessage("0200")
	m.Set(4, "000000001250")
	m.Set(49, "392")
	if got := unionpay.Describe(m, English); !strings.Contains(got, "000000001250  1250 JPY\n") {
		t.Errorf("yen have no cents:\n%s", got)
	}
}

func TestDescribeReadsTheMTI(t *testing.T) {
	p := profile(t)
	for mti, want := range map[MTI][2]string{
		"0100": {"authorization request (ISO 8583:1987)", "授权请求（ISO 8583:1987）"},
		"0210": {"financial answer (ISO 8583:1987)", "金融应答（ISO 8583:1987）"},
		"0320": {"file action advice (ISO 8583:1987)", "文件操作通知（ISO 8583:1987）"},
		"0401": {"reversal request, repeat (ISO 8583:1987)", "冲正请求，重发（ISO 8583:1987）"},
		"1421": {"reversal advice, repeat (ISO 8583:1993)", "冲正通知，重发（ISO 8583:1993）"},
		"1430": {"reversal advice answer (ISO 8583:1993)", "冲正通知应答（ISO 8583:1993）"},
		"0500": {"reconciliation request (ISO 8583:1987)", "对账请求（ISO 8583:1987）"},
		"0620": {"administrative advice (ISO 8583:1987)", "管理通知（ISO 8583:1987）"},
		"2740": {"fee collection notification (ISO 8583:2003)", "收费通告（ISO 8583:2003）"},
		"1804": {"network management request (ISO 8583:1993)", "网络管理请求（ISO 8583:1993）"},
		"9999": {"reserved reserved (version 9)", "保留保留（版本9）"},
	} {
		for i, lang := range []Language{English, Chinese} {
			if got := p.Describe(NewMessage(mti), lang); got != "MTI "+string(mti)+"  "+want[i]+"\n" {
				t.Errorf("%s in %s: %q", mti, lang, got)
			}
		}
	}
	for n := range 10000 { // none of them is too much for it
		for _, lang := range []Language{English, Chinese} {
			keepsToTheTerminal(t, describeMTI(MTI(fmt.Sprintf("%04d", n)), lang), "MTI")
		}
	}
	if got := p.Describe(NewMessage(MTI(visaTest)), English); got != "MTI <hidden> not four digits\n" {
		t.Errorf("no MTI: %q", got)
	}
	var none *Message
	if p.Describe(none, English) != "no message\n" || p.Describe(&Message{}, Chinese) != "无报文\n" {
		t.Error("no message is not described as one")
	}
}

func TestParseLanguage(t *testing.T) {
	for in, want := range map[string]Language{
		"en": English, "EN": English, "en_US": English, "en-GB": English, "C": English, "C.UTF-8": English, "POSIX": English,
		"zh": Chinese, "zh_CN": Chinese, "zh_CN.UTF-8": Chinese, "zh-Hans": Chinese, "zh@pinyin": Chinese,
	} {
		if got, err := ParseLanguage(in); got != want || err != nil {
			t.Errorf("%q is %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "de", "english", "_CN", visaTest} {
		if _, err := ParseLanguage(in); !errors.Is(err, ErrInvalid) || (in != "" && strings.Contains(err.Error(), in)) {
			t.Errorf("%q: %v", in, err)
		}
	}
	for _, l := range []Language{English, Chinese} {
		if got, err := ParseLanguage(string(l)); got != l || err != nil {
			t.Errorf("%q does not come back", l)
		}
	}
}
