// Package roster reads roster files: any text with commas, semicolons, tabs or bars in one of several
// encodings, or an Excel workbook, in constant memory.
//
//	            ┌─ textFile ── records of text      (file.go)
//	NewReader ──┤                                          ──► header ──► Row, with warnings
//	            └─ workbook ── records of a sheet   (workbook.go, sheet.go)      or Reject
//
// Entry points:
//
//	Reader        gives the rows of a file, and rejects with line, column, code and cure  (reader.go)
//	ReadPreview   shows how a file would be read, for a person to choose its columns     (preview.go)
//	MailDomains   finds domains that cannot receive mail                              (maildomain.go)
//	ParseAddress  is what we take for a mail address                                     (address.go)
//
// What columns mean is found in header.go, what a cell may hold in cell.go, and what is doubtful although it
// is taken in warning.go. Package provisioning compares the rows with each other and with the clients there
// are; some reject codes and columns that it adds to files are listed here, with the others.
package roster
