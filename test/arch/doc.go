// Package arch holds no code, only tests that keep the source as the documents
// say it is: the table of allowed imports in docs/architecture.md, the purity
// of the packages below the line, the list of metrics in docs/metrics.md, and
// the list of dependencies' licences.
package arch
