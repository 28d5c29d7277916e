package html

import (
	"strings"
	"testing"

	nethtml "golang.org/x/net/html"
	"pgregory.net/rapid"
)

// S001-097
func TestSanitize(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"a < b & c", "a &lt; b &amp; c"},
		{"<b>x</b>", "<b>x</b>"},
		{"<b>x", "<b>x</b>"},
		{"<script>alert(1)</script>x", "x"},
		{"<style>*{}</style>x", "x"},
		{"<img src=x onerror=alert(1)>", ""},
		{`<img src="https://e.example/t.png" alt="pic">`, "pic"},
		{`<img src="mxc://hs/abc" alt="pic" onload="x" width="9">`, `<img src="mxc://hs/abc" alt="pic" width="9"/>`},
		{`<a href="javascript:alert(1)">x</a>`, "x"},
		{`<a href="JaVaScRiPt:alert(1)">x</a>`, "x"},
		{`<a href="data:text/html,x">x</a>`, "x"},
		{`<a href="//e.example">x</a>`, "x"},
		{`<a href="/rel">x</a>`, "x"},
		{`<a href="https://e.example/?a=1&amp;b=2" onclick="x" style="x">x</a>`, `<a href="https://e.example/?a=1&amp;b=2">x</a>`},
		{`<a href="matrix:u/a:hs">x</a>`, `<a href="matrix:u/a:hs">x</a>`},
		{`<span data-mx-color="#ff0000" style="color:red">x</span>`, `<span data-mx-color="#ff0000">x</span>`},
		{`<span data-mx-color="red">x</span>`, `<span>x</span>`},
		{`<font color="#00ff00">x</font>`, `<span data-mx-color="#00ff00">x</span>`},
		{`<code class="language-go">x</code><code class="x y">y</code>`, `<code class="language-go">x</code><code>y</code>`},
		{`<mx-reply><blockquote>old</blockquote></mx-reply>new`, "new"},
		{`<iframe src="https://e.example"></iframe>x`, "x"},
		{`<form><input type=text><button>go</button></form>x`, "x"},
		{`<svg><script>x</script></svg><math><mi>y</mi></math>z`, "z"},
		{`<input type="checkbox" checked>done`, "☑ done"},
		{"<!-- c --><p>x</p>", "<p>x</p>"},
		{"a\u0000b\u0007c", "abc"},
		{"<details><summary>s</summary>d</details>", "<details><summary>s</summary>d</details>"},
	} {
		got := Sanitize(c.in)
		// A link that lost its target is text.
		got = strings.NewReplacer("<a>", "", "</a>", "").Replace(got)
		want := strings.ReplaceAll(c.want, "</a>", "")
		if got != want {
			t.Errorf("Sanitize(%q)\n got %q\nwant %q", c.in, got, want)
		}
	}
}

// checkClean fails when out holds anything but what the rules list, or changes
// when it is sanitised again.
func checkClean(t interface{ Fatalf(string, ...any) }, in, out string) {
	z := nethtml.NewTokenizer(strings.NewReader(out))
	for z.Next() != nethtml.ErrorToken {
		tok := z.Token()
		switch tok.Type {
		case nethtml.CommentToken, nethtml.DoctypeToken:
			t.Fatalf("%s in output\n in %q\nout %q", tok.Type, in, out)
		case nethtml.StartTagToken, nethtml.SelfClosingTagToken:
			rules, ok := allowed[tok.Data]
			if !ok {
				t.Fatalf("element %s in output\n in %q\nout %q", tok.Data, in, out)
			}
			for _, a := range tok.Attr {
				rule, ok := rules[a.Key]
				if !ok || rule != nil && !rule.MatchString(a.Val) || a.Key == "href" && !SafeLink(a.Val) {
					t.Fatalf("attribute %s=%q of %s in output\n in %q\nout %q", a.Key, a.Val, tok.Data, in, out)
				}
			}
		}
	}
	if again := Sanitize(out); again != out {
		t.Fatalf("changes when sanitised again\n    in %q\n   out %q\n again %q", in, out, again)
	}
}

func drawHTML(t *rapid.T) string {
	tags := []string{"b", "i", "p", "div", "a", "ul", "ol", "li", "table", "tr", "td", "th", "pre", "code", "blockquote", "h1", "span", "font", "script", "style", "svg", "math", "form", "button", "select", "option", "textarea", "title", "template", "noscript", "mx-reply", "details", "img", "br", "caption", "tbody", "u", "del"}
	pieces := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
		switch rapid.IntRange(0, 5).Draw(t, "what") {
		case 0, 1:
			return "<" + rapid.SampledFrom(tags).Draw(t, "tag") + rapid.SampledFrom([]string{"", "", ` href="https://e.example/"`, ` href="javascript:x"`, ` onclick=x`, ` data-mx-color="#123456"`, ` src="mxc://hs/a"`, ` style="x"`, "/"}).Draw(t, "attr") + ">"
		case 2:
			return "</" + rapid.SampledFrom(tags).Draw(t, "tag") + ">"
		case 3:
			return rapid.SampledFrom([]string{"<!--", "-->", "<![CDATA[", "]]>", "&lt;", "&#0;", "\n", "<", ">", `"`, "'", "&", "<p", "<a href="}).Draw(t, "odd")
		}
		return rapid.StringN(0, 8, -1).Draw(t, "text")
	}), 0, 25).Draw(t, "pieces")
	return strings.Join(pieces, "")
}

// What comes out is clean when sanitised again.
func TestSanitizeIsStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawHTML(t)
		checkClean(t, in, Sanitize(in))
	})
}

func TestDepthAndSizeAreBounded(t *testing.T) {
	deep := strings.Repeat("<blockquote>", 20000) + "x" + strings.Repeat("</blockquote>", 20000)
	for name, in := range map[string]string{
		"deep": deep, "deep spans": strings.Repeat("<b><i>", 200) + "x", "long": strings.Repeat("<p>x</p>", 60000), "open": strings.Repeat("<ul><li>", 300) + "x",
	} {
		out := Sanitize(in)
		if strings.Count(out, "<blockquote>") > MaxDepth || !strings.Contains(out, "x") {
			t.Errorf("%s: %d octets, %.60s", name, len(out), out)
		}
		if md := ToMarkdown(in, nil).Text; !strings.Contains(md, "x") {
			t.Errorf("%s: text lost in Markdown", name)
		}
		_ = Text(in)
	}
	for _, in := range []string{strings.Repeat("> ", 20000) + "x", strings.Repeat("- ", 20000) + "x", strings.Repeat("*a _b ", 20000), strings.Repeat("[", 30000), strings.Repeat("a ` ``", 5000)} {
		if out := FromMarkdown(in, nil); !strings.Contains(out, in[len(in)-1:]) {
			t.Errorf("lost: %.40s", out)
		}
	}
}

func TestToMarkdown(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"plain", "plain"},
		{"a<br>b", "a  \nb"},
		{"<p>a</p><p>b</p>", "a\n\nb"},
		{"<b>a</b> <i>b</i> <del>c</del>", "**a** *b* ~~c~~"},
		{"<strong><em>a</em></strong>", "***a***"},
		{"<b>a </b>b", "**a** b"},
		{"x<b> a</b>", "x **a**"},
		{"<b>a</b><b>b</b>", "**ab**"},
		{"<b><p>a</p><p>b</p></b>", "**a**\n\n**b**"},
		{`<a href="https://e.example/">y</a>`, "[y](https://e.example/)"},
		{`<a href="https://e.example/">https://e.example/</a>`, "<https://e.example/>"},
		{`<a href="https://e.example/a(b)">y</a>`, "[y](<https://e.example/a(b)>)"},
		{`<a href="javascript:x">y</a>`, "y"},
		{`wow!<a href="https://e.example/">y</a>`, `wow\![y](https://e.example/)`},
		{"<code>a*b</code>", "`a*b`"},
		{"<code>a`b</code>", "``a`b``"},
		{"<pre><code class=\"language-go\">x := 1\n\ny</code></pre>", "```go\nx := 1\n\ny\n```"},
		{"<pre>```</pre>", "````\n```\n````"},
		{"<blockquote><p>a</p><p>b</p></blockquote>c", "> a\n>\n> b\n\nc"},
		{"<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul>", "- a\n- b\n\n  - c"},
		{"<ol start=3><li>a</li><li>b</li></ol>", "3. a\n4. b"},
		{"<ul><li>a</li></ul><ul><li>b</li></ul>", "- a\n\n+ b"},
		{"<ul><li>☐ a</li><li>☑ b</li></ul>", "- [ ] a\n- [x] b"},
		{"<h2>a</h2>b", "## a\n\nb"},
		{"a<hr>b", "a\n\n***\n\nb"},
		{"<table><tr><th>a</th><th>b|c</th></tr><tr><td>1</td></tr></table>", "| a | b\\|c |\n| --- | --- |\n| 1 |  |"},
		{"1. x", `1\. x`}, {"- x", `\- x`}, {"# x", `\# x`}, {"&gt; x", `\> x`}, {"---", `\---`}, {"a *b* _c_ snake_case", `a \*b\* \_c\_ snake_case`},
		{"&lt;b&gt; a &lt; b", "&lt;b> a < b"}, {"&amp;amp; &amp; x", "&amp;amp; & x"}, {"[x](y)", `\[x\](y)`}, {"<u>a</u><sup>2</sup>", "a2"},
		{`<span data-mx-spoiler>secret</span>`, "(spoiler) secret"}, {`<span data-mx-spoiler="why">secret</span>`, "(spoiler: why) secret"},
		{`<img data-mx-emoticon src="mxc://hs/x" alt=":cat:">`, ":cat:"},
		{"<mx-reply>x</mx-reply>y", "y"},
	} {
		if got := ToMarkdown(c.in, nil).Text; got != c.want {
			t.Errorf("ToMarkdown(%q)\n got %q\nwant %q", c.in, got, c.want)
		}
	}
	if m := ToMarkdown("a &lt; b<br>c", nil); !m.Plain || m.Lossy {
		t.Errorf("plain text: %+v", m)
	}
	if m := ToMarkdown("<u>a</u>", nil); !m.Lossy {
		t.Errorf("underline: %+v", m)
	}
}

func TestFromMarkdown(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"plain", "plain"},
		{"**a** *b* ~~c~~ `d`", "<strong>a</strong> <em>b</em> <del>c</del> <code>d</code>"},
		{"a\n\nb", "<p>a</p>\n<p>b</p>"},
		{"a  \nb", "a<br/>\nb"},
		{"<b>x</b> & <script>", "&lt;b&gt;x&lt;/b&gt; &amp; &lt;script&gt;"},
		{"<div>\n*x*\n</div>", "&lt;div&gt;\n<em>x</em>\n&lt;/div&gt;"},
		{"www.example.com https://e.example a@b.example", "www.example.com https://e.example a@b.example"},
		{"<https://e.example>", `<a href="https://e.example">https://e.example</a>`},
		{"<a@b.example>", `<a href="mailto:a@b.example">a@b.example</a>`},
		{"[x](https://e.example)", `<a href="https://e.example">x</a>`},
		{"[*x*](javascript:y)", "x"},
		{"![alt](https://e.example/i.png)", `<a href="https://e.example/i.png">alt</a>`},
		{"- [ ] a\n- [x] b", "<ul>\n<li>☐ a</li>\n<li>☑ b</li>\n</ul>"},
		{"| a | b |\n|--:|---|\n| 1 | 2 |", "<table>\n<thead>\n<tr>\n<th>a</th>\n<th>b</th>\n</tr>\n</thead>\n<tbody>\n<tr>\n<td>1</td>\n<td>2</td>\n</tr>\n</tbody>\n</table>"},
		{"```go\nx\n```", "<pre><code class=\"language-go\">x\n</code></pre>"},
		{"a[^1]", "a[^1]"},
		{"\"quotes\" -- ...", "&#34;quotes&#34; -- ..."},
	} {
		if got := FromMarkdown(c.in, nil); got != c.want {
			t.Errorf("FromMarkdown(%q)\n got %q\nwant %q", c.in, got, c.want)
		}
	}
	pill := func(l Link) Link {
		if l.Dest == "mimi://a.example/u/bob" {
			return Link{Dest: "https://matrix.to/#/@bob:hs", Text: "Bob"}
		}
		return Link{Text: l.Text}
	}
	if got := FromMarkdown("[*evil*](mimi://a.example/u/bob) <mimi://a.example/u/bob> [x](mimi://z)", pill); got != `<a href="https://matrix.to/#/@bob:hs">Bob</a> <a href="https://matrix.to/#/@bob:hs">Bob</a> x` {
		t.Error(got)
	}
}

// normal is text as people read it.
func normal(s string) string { return strings.Join(strings.Fields(s), " ") }

func TestEscapedTextIsShownAsItIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.OneOf(rapid.StringN(0, 60, -1), rapid.StringOfN(rapid.RuneFrom([]rune("ab1.)(-+*_~`#>|[]<&;!=:\\ \n\t/h")), 0, 40, -1)).Draw(t, "text")
		got := Text(FromMarkdown(EscapeMarkdown(in), nil))
		strip := func(s string) string { return normal(strings.ReplaceAll(clean(s), "\u00a0", " ")) }
		if strip(got) != strip(in) {
			t.Fatalf("text %q\nmarkdown %q\nshown %q", in, EscapeMarkdown(in), got)
		}
	})
}

// drawTidy makes HTML as clients write it.
func drawTidy(t *rapid.T, depth int) string {
	word := rapid.StringOfN(rapid.RuneFrom([]rune("abcxyz 01.*_`~<>&|#-+=[]()!\\\"'é日:/")), 1, 12, -1)
	var inline func(t *rapid.T, d int) string
	inline = func(t *rapid.T, d int) string {
		var b strings.Builder
		for range rapid.IntRange(1, 3).Draw(t, "n") {
			w := strings.NewReplacer("&", "&amp;", "<", "&lt;").Replace(word.Draw(t, "w"))
			k := rapid.IntRange(0, 9).Draw(t, "inline")
			switch {
			case k == 0 && d > 0:
				w = "<strong>" + inline(t, d-1) + "</strong>"
			case k == 1 && d > 0:
				w = "<em>" + inline(t, d-1) + "</em>"
			case k == 2 && d > 0:
				w = "<del>" + inline(t, d-1) + "</del>"
			case k == 3:
				w = "<code>" + w + "</code>"
			case k == 4:
				w = `<a href="https://e.example/x">` + w + `</a>`
			case k == 5:
				w += "<br>"
			}
			b.WriteString(w)
		}
		return b.String()
	}
	var b strings.Builder
	for range rapid.IntRange(1, 3).Draw(t, "blocks") {
		k := rapid.IntRange(0, 8).Draw(t, "block")
		if depth <= 0 && k > 1 {
			k = 0
		}
		switch k {
		case 2:
			b.WriteString("<blockquote>" + drawTidy(t, depth-1) + "</blockquote>")
		case 3:
			b.WriteString("<ul><li>" + drawTidy(t, depth-1) + "</li><li>" + inline(t, 1) + "</li></ul>")
		case 4:
			b.WriteString("<ol><li>" + inline(t, 1) + "</li><li>" + drawTidy(t, depth-1) + "</li></ol>")
		case 5:
			b.WriteString("<pre><code>" + strings.NewReplacer("&", "&amp;", "<", "&lt;").Replace(word.Draw(t, "code")) + "</code></pre>")
		case 6:
			b.WriteString("<h3>" + inline(t, 1) + "</h3>")
		case 7:
			b.WriteString("<table><tr><th>" + inline(t, 1) + "</th><th>x</th></tr><tr><td>" + inline(t, 1) + "</td><td>y</td></tr></table>")
		case 8:
			b.WriteString("<hr>")
		default:
			b.WriteString("<p>" + inline(t, 2) + "</p>")
		}
	}
	return b.String()
}

// letters is all text of a piece of HTML without white space.
func letters(s string) string {
	root, _ := parse(s)
	return strings.Join(strings.Fields(textOf(root)), "")
}

// No letter of a text is lost or added on the way HTML → Markdown → HTML.
func TestMarkdownKeepsTheText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawTidy(t, 2)
		md := ToMarkdown(in, nil)
		out := FromMarkdown(md.Text, nil)
		checkClean(t, md.Text, out)
		if letters(out) != letters(in) {
			t.Fatalf("html     %q\nmarkdown %q\nback     %q\ntext was %q\ntext is  %q", in, md.Text, out, letters(in), letters(out))
		}
		// What went through once goes through again unchanged.
		if again := ToMarkdown(out, nil).Text; letters(FromMarkdown(again, nil)) != letters(out) {
			t.Fatalf("second time: %q, then %q", md.Text, again)
		}
	})
}

func TestName(t *testing.T) {
	for in, want := range map[string]string{
		"Alice": "Alice", " a\n b ": "a b", "a\u202eb": "ab", "x\u0000y": "xy", strings.Repeat("é", 200): strings.Repeat("é", 99) + "…",
	} {
		if got := Name(in); got != want {
			t.Errorf("Name(%q) = %q", in, got)
		}
	}
}

func TestLine(t *testing.T) {
	const marks = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c\ufeff\u200b\u2060"
	for in, want := range map[string]string{
		"two\nlines \t here": "two lines here", "file\u202egpj.exe": "filegpj.exe", "a" + marks + "b": "ab", "x\u0000\u0085y": "xy", "one\u2028two": "one two",
		"👩\u200d💻 \u2764\ufe0f": "👩\u200d💻 \u2764\ufe0f", "123456789012345": "1234567890123…", "123456789012 45": "123456789012…", "שלום": "שלום",
	} {
		if got := Line(in, 14); got != want {
			t.Errorf("Line(%q) = %q", in, got)
		}
	}
}

// What is written from right to left is isolated from the words around it, whatever it holds; other texts can be copied as they are.
func TestApart(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "mimi://a.example/r/1": "mimi://a.example/r/1", "Zoë 3": "Zoë 3", "שלום": "\u2068שלום\u2069", "a سلام": "\u2068a سلام\u2069", "\u0663": "\u2068\u0663\u2069",
		"\u2069\u202eשל": "\u2068של\u2069", "\u202eab": "ab",
	} {
		if got := Apart(in); got != want {
			t.Errorf("Apart(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzMatrixHTML(f *testing.F) {
	for _, s := range []string{"<b>x</b>", "<table><b><tr><td>x", "<a href='javascript:x'>y", "<p><button><p>x", "<svg><a xlink:href=x>", "<pre>\n\nx</pre>", "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=alert(1)&gt;\">"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		checkClean(t, in, Sanitize(in))
		_ = Text(in)
		md := ToMarkdown(in, nil)
		checkClean(t, md.Text, FromMarkdown(md.Text, nil))
	})
}

func FuzzMarkdown(f *testing.F) {
	for _, s := range []string{"**a**", "> - 1. x", "| a |\n|---|\n| b |", "<b>", "[x](y)", "```\nx", "![a](b)", "- [x] y", "a\\\nb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		out := FromMarkdown(in, nil)
		checkClean(t, in, out)
		_ = FromMarkdown(ToMarkdown(out, nil).Text, nil)
		_ = EscapeMarkdown(in)
	})
}

func TestRewrite(t *testing.T) {
	got := Rewrite(`<p>a <a href="mimi://a.example/u/bob" onclick=x><b>evil</b></a> <a href="mimi://z">z</a> <a href="https://e.example"><i>e</i></a></p>`, func(l Link) Link {
		switch l.Dest {
		case "mimi://a.example/u/bob":
			return Link{Dest: "https://matrix.to/#/@bob:hs", Text: "Bob"}
		case "https://e.example":
			return l
		}
		return Link{Text: l.Text}
	})
	if want := `<p>a <a href="https://matrix.to/#/@bob:hs">Bob</a> <span>z</span> <a href="https://e.example"><i>e</i></a></p>`; got != want {
		t.Errorf("got %s", got)
	}
}
