package iso

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// withoutAddresses strikes out of a text every address that can be reached from a
// value, in each base that a verb prints it in.
func withoutAddresses(text string, v any) string {
	found := map[uintptr]bool{}
	addresses(reflect.ValueOf(v), found)
	var pairs []string
	for at := range found {
		for _, base := range []int{2, 8, 10, 16} {
			form := strconv.FormatUint(uint64(at), base)
			pairs = append(pairs, form, "@", strings.ToUpper(form), "@")
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// addresses walks to everything that fmt could walk to.
func addresses(v reflect.Value, found map[uintptr]bool) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Func, reflect.Chan, reflect.UnsafePointer:
		at := v.Pointer()
		if at == 0 || (found[at] && v.Kind() == reflect.Pointer) {
			return
		}
		found[at] = true
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			addresses(v.Elem(), found)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			addresses(v.Field(i), found)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			addresses(v.Index(i), found)
		}
	case reflect.Map:
		for i := v.MapRange(); i.Next(); {
			addresses(i.Key(), found)
			addresses(i.Value(), found)
		}
	}
}

// An address is struck out in every form that a verb prints, and nothing else is.
func TestAddressesAreNoSecrets(t *testing.T) {
	v := struct {
		Open string
		far  *int
		list []*int
	}{"824637828224", new(int), []*int{new(int)}}
	for _, at := range []*int{v.far, v.list[0]} {
		for _, verb := range verbs {
			out := withoutAddresses(fmt.Sprintf(verb, v), v)
			for _, form := range []string{"%b", "%o", "%d", "%x", "%X"} {
				if strings.Contains(out, strings.TrimSpace(fmt.Sprintf(form, at))) {
					t.Errorf("%s prints the address as %s does", verb, form)
				}
			}
			if strings.Contains(fmt.Sprintf(verb, v), v.Open) && !strings.Contains(out, v.Open) {
				t.Errorf("%s: more than addresses was struck out", verb)
			}
		}
	}
}
