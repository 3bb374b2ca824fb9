package main

import (
	"encoding/json"
	"fmt"
)

// The arguments of a call. encoding/json reads and writes []byte as base64, and null as nil.
type arguments []json.RawMessage

func (a arguments) into(index int, target any) {
	if err := json.Unmarshal(a[index], target); err != nil {
		panic(fmt.Sprintf("argument %d, %s: %v", index, a[index], err))
	}
}

func (a arguments) text(index int) (found string) {
	a.into(index, &found)
	return found
}

func (a arguments) number(index int) (found int64) {
	a.into(index, &found)
	return found
}

func (a arguments) bytes(index int) (found []byte) {
	a.into(index, &found)
	return found
}

// A name with a value: ["trace", "base64"], the value may be null.
type header struct {
	name  string
	value []byte
}

func (h *header) UnmarshalJSON(raw []byte) error {
	pair := []any{&h.name, &h.value}
	return json.Unmarshal(raw, &pair)
}

func (h header) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{h.name, h.value})
}

// A partition: ["topic", 0].
type place struct {
	topic     string
	partition int32
}

func (p *place) UnmarshalJSON(raw []byte) error {
	pair := []any{&p.topic, &p.partition}
	return json.Unmarshal(raw, &pair)
}

func (p place) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{p.topic, p.partition})
}

// A position: ["topic", 0, 17].
type position struct {
	place
	offset int64
}

func (p *position) UnmarshalJSON(raw []byte) error {
	triple := []any{&p.topic, &p.partition, &p.offset}
	return json.Unmarshal(raw, &triple)
}
