// Package server is the provider's HTTPS face towards other providers: the directory, WebFinger, and the ten endpoints of
// draft-ietf-mimi-protocol-06 §5, one file a verb. It establishes who calls before a byte of the body is read, bounds
// and decodes the body, and hands it to a [Handler], which decides, stores and answers.
//
// It keeps nothing and decides nothing about rooms.
package server
