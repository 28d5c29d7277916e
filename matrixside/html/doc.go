// Package html is the formatted text of the bridge: the HTML that Matrix
// allows in messages, plain text, and the Markdown of MIMI
// (`text/markdown;variant=GFM-MIMI`, draft-ietf-mimi-content-08 §7.1: CommonMark
// with tables, task lists and strikethrough, without raw HTML and without
// extended autolinks).
//
// Everything that leaves [Sanitize] and [FromMarkdown] holds only elements,
// attributes and link schemes that the Matrix specification lists, is balanced,
// and does not change when it is sanitised again. Input of any size and depth
// is safe: what is too large or too deep comes out as plain text.
//
// The package is pure. It does not know what a link to a user means; callers
// rewrite links through [LinkFunc].
package html
