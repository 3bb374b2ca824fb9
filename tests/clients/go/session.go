package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// franz-go's own way to read, transform and write exactly once: one client that is a group's member
// and a transactional producer.
type session struct {
	session *kgo.GroupTransactSession
	output  string
}

func newSession(a arguments) (*session, error) {
	made, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(a.text(0)),
		kgo.TransactionalID(a.text(1)),
		kgo.ConsumerGroup(a.text(2)),
		kgo.ConsumeTopics(a.text(3)),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxWait(50*time.Millisecond),
		kgo.RequireStableFetchOffsets(),
	)
	return &session{made, a.text(4)}, err
}

func (s *session) run(ctx context.Context, method string, a arguments) (any, error) {
	switch method {
	case "transform":
		return s.transform(ctx, int(a.number(0)), int(a.number(1)))
	case "close":
		s.session.CloseAllowingRebalance()
		return nil, nil
	}
	return nil, fmt.Errorf("a session has no method %s", method)
}

// Copy records from input to output until count of them are committed, at most limit in one
// transaction, and every other transaction aborted first. Answers how many transactions it took.
func (s *session) transform(ctx context.Context, count, limit int) (any, error) {
	transactions := 0
	for done := 0; done < count; transactions++ {
		records := s.session.PollRecords(ctx, limit).Records()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err := s.session.Begin(); err != nil {
			return nil, err
		}
		promise := kgo.AbortingFirstErrPromise(s.session.Client())
		for _, record := range records {
			copied := &kgo.Record{Topic: s.output, Value: record.Value}
			s.session.Produce(ctx, copied, promise.Promise())
		}
		wanted := kgo.TransactionEndTry(promise.Err() == nil && transactions%2 == 1)
		committed, err := s.session.End(ctx, wanted)
		if err != nil {
			return nil, err
		}
		if committed {
			done += len(records)
		}
	}
	return transactions, nil
}
