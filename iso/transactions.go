package iso

import "slices"

// TxType names a kind of transaction, as profiles do.
type TxType string

// The kinds of transactions (PROTOCOL A). Which of them there are, and what each
// one is called on the wire, is the profile's.
const (
	Sale             TxType = "sale"              // money from the cardholder to the merchant
	Void             TxType = "void"              // takes back a sale of the current batch
	PreAuth          TxType = "preauth"           // holds an amount
	PreAuthVoid      TxType = "preauth-void"      // lets go of a hold
	Completion       TxType = "completion"        // takes what was held, as a request
	CompletionAdvice TxType = "completion-advice" // the same, told to the host until it acknowledges
	CompletionVoid   TxType = "completion-void"   // takes back a completion
	Refund           TxType = "refund"            // money back to the cardholder
	Inquiry          TxType = "inquiry"           // asks for the balance
	OfflineSale      TxType = "offline-sale"      // a sale made without the host, told to it
	Adjustment       TxType = "adjustment"        // another amount for an offline sale
	Tip              TxType = "tip"               // a tip on top of a sale
	ScriptNotice     TxType = "script-notice"     // what became of an issuer script
	SignOn           TxType = "sign-on"           // brings the working keys
	SignOff          TxType = "sign-off"
	Echo             TxType = "echo"
	Settlement       TxType = "settlement" // totals of the batch
	Upload           TxType = "upload"     // the batch's transactions
	UploadEnd        TxType = "upload-end"
)

// Recovery is what becomes of a transaction of this type whose outcome is
// unknown; an unknown type is Nothing.
func (p *Profile) Recovery(t TxType) Recovery {
	if tx, ok := p.data.Transactions[t]; ok {
		return tx.Recovery
	}
	return Nothing
}

// Reversible reports whether an unanswered transaction of this type is to be
// reversed (L16). An unknown type is not.
func (p *Profile) Reversible(t TxType) bool { return p.Recovery(t) == Reverse }

// TxTypes lists the transactions that the profile knows, sorted.
func (p *Profile) TxTypes() []TxType {
	var list []TxType
	for t := range p.data.Transactions {
		list = append(list, t)
	}
	slices.Sort(list)
	return list
}
