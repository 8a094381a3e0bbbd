module uncharge

go 1.26

require github.com/moov-io/iso8583 v0.23.2

require (
	github.com/stretchr/testify v1.11.1 // indirect
	github.com/yerden/go-util v1.1.4 // indirect
	golang.org/x/text v0.21.0 // indirect
)
