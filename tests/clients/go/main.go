// franz-go behind the line protocol of java/Worker.java: a JSON object per line on standard input,
// one per line back. Object 0 makes producers, consumers, admins and sessions, and answers with their
// ids.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

const wait = 30 * time.Second

type call struct {
	Object    int               `json:"object"`
	Method    string            `json:"method"`
	Arguments []json.RawMessage `json:"arguments"`
}

type failure struct {
	Kind   string `json:"kind"`
	Native string `json:"native"`
	Text   string `json:"text"`
}

// A client that the worker holds: it runs one method at a time.
type object interface {
	run(ctx context.Context, method string, a arguments) (any, error)
}

// The group of a consumer as it was when it was asked for, for send_offsets.
type group struct {
	id, member string
	generation int32
}

type worker struct {
	objects []object
	groups  map[int]group
}

func (w *worker) keep(made object) int {
	w.objects = append(w.objects, made)
	return len(w.objects)
}

func (w *worker) run(ctx context.Context, c call) (any, error) {
	a := arguments(c.Arguments)
	if c.Object > 0 {
		return w.objects[c.Object-1].run(ctx, c.Method, a)
	}
	var made object
	var err error
	switch c.Method {
	case "producer":
		made, err = newProducer(w, a)
	case "consumer":
		made = newConsumer(w, a)
	case "session":
		made, err = newSession(a)
	default:
		made, err = newAdmin(a)
	}
	if err != nil {
		return nil, err
	}
	return w.keep(made), nil
}

func describe(err error) failure {
	found := failure{Kind: "error", Native: fmt.Sprintf("%T", err), Text: err.Error()}
	var known *kerr.Error
	if errors.As(err, &known) {
		found.Native = known.Message
	}
	switch {
	case errors.Is(err, kerr.ProducerFenced), errors.Is(err, kerr.InvalidProducerEpoch):
		found.Kind = "fenced"
	case errors.Is(err, kerr.TransactionAbortable):
		found.Kind = "abortable"
	}
	return found
}

func main() {
	w := &worker{groups: map[int]group{}}
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			os.Exit(0) // clients that were not closed go with the process, as in a crash
		}
		var c call
		if err := json.Unmarshal(line, &c); err != nil {
			panic(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		result, err := w.run(ctx, c)
		cancel()
		if err != nil {
			err = out.Encode(map[string]any{"error": describe(err)})
		} else {
			err = out.Encode(map[string]any{"result": result})
		}
		if err != nil {
			panic(err)
		}
	}
}
