package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A consumer's client can only be made once it is known what it reads: options says the rest.
type consumer struct {
	worker        *worker
	groupID       string
	committedOnly bool
	options       []kgo.Opt
	client        *kgo.Client
	mutex         sync.Mutex
	assigned      map[place]bool
	direct        map[place]bool
}

func newConsumer(w *worker, a arguments) *consumer {
	c := &consumer{worker: w, groupID: a.text(1), assigned: map[place]bool{}, direct: map[place]bool{}}
	a.into(2, &c.committedOnly)
	isolation := kgo.ReadUncommitted()
	if c.committedOnly {
		isolation = kgo.ReadCommitted()
	}
	c.options = []kgo.Opt{
		kgo.SeedBrokers(a.text(0)),
		kgo.FetchIsolationLevel(isolation),
		kgo.FetchMaxWait(50 * time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	}
	return c
}

func (c *consumer) open(more ...kgo.Opt) (err error) {
	c.client, err = kgo.NewClient(append(c.options, more...)...)
	return err
}

func (c *consumer) run(ctx context.Context, method string, a arguments) (any, error) {
	switch method {
	case "assign":
		var places []place
		a.into(0, &places)
		return nil, c.assign(places)
	case "subscribe":
		return nil, c.subscribe(a.text(0))
	case "assignment":
		return c.assignment(), nil
	case "group":
		member, generation := c.client.GroupMetadata()
		id := c.worker.keep(nil)
		c.worker.groups[id] = group{c.groupID, member, generation}
		return id, nil
	case "poll":
		return c.poll(ctx, time.Duration(a.number(0))*time.Millisecond)
	case "seek":
		var where place
		a.into(0, &where)
		at := kgo.EpochOffset{Epoch: -1, Offset: a.number(1)}
		c.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{where.topic: {where.partition: at}})
	case "commit":
		var positions []position
		a.into(0, &positions)
		return nil, c.commit(ctx, positions)
	case "committed":
		var where place
		a.into(0, &where)
		return c.committed(ctx, where)
	case "offset_for_time", "end_offset":
		return c.listed(ctx, method, a)
	case "close":
		if c.client != nil {
			c.client.CloseAllowingRebalance()
		}
	default:
		return nil, fmt.Errorf("a consumer has no method %s", method)
	}
	return nil, nil
}

func (c *consumer) assign(places []place) error {
	partitions := map[string]map[int32]kgo.Offset{}
	for _, where := range places {
		if partitions[where.topic] == nil {
			partitions[where.topic] = map[int32]kgo.Offset{}
		}
		partitions[where.topic][where.partition] = kgo.NewOffset().AtStart()
		c.direct[where] = true
	}
	return c.open(kgo.ConsumePartitions(partitions))
}

func (c *consumer) subscribe(topic string) error {
	change := func(held bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) {
			c.mutex.Lock()
			defer c.mutex.Unlock()
			for topic, numbers := range changed {
				for _, number := range numbers {
					if held {
						c.assigned[place{topic, number}] = true
					} else {
						delete(c.assigned, place{topic, number})
					}
				}
			}
		}
	}
	return c.open(
		kgo.ConsumeTopics(topic),
		kgo.ConsumerGroup(c.groupID),
		kgo.DisableAutoCommit(),
		kgo.SessionTimeout(6*time.Second),
		kgo.HeartbeatInterval(300*time.Millisecond),
		// What was polled can be committed before the partition goes to another member.
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(change(true)),
		kgo.OnPartitionsRevoked(change(false)),
		kgo.OnPartitionsLost(change(false)),
	)
}

func (c *consumer) assignment() []place {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	found := []place{}
	for where := range c.assigned {
		found = append(found, where)
	}
	for where := range c.direct {
		found = append(found, where)
	}
	return found
}

func (c *consumer) poll(ctx context.Context, limit time.Duration) (any, error) {
	c.client.AllowRebalance()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	rows := [][]any{}
	fetches := c.client.PollFetches(ctx)
	for _, failed := range fetches.Errors() {
		if !errors.Is(failed.Err, context.DeadlineExceeded) && !errors.Is(failed.Err, context.Canceled) {
			return nil, failed.Err
		}
	}
	fetches.EachRecord(func(record *kgo.Record) {
		headers := []header{}
		for _, h := range record.Headers {
			headers = append(headers, header{h.Key, h.Value})
		}
		rows = append(rows, []any{
			record.Topic, record.Partition, record.Offset, record.Key, record.Value, headers,
			record.Timestamp.UnixMilli(),
		})
	})
	return rows, nil
}

func (c *consumer) commit(ctx context.Context, positions []position) error {
	offsets := map[string]map[int32]kgo.EpochOffset{}
	for _, one := range positions {
		if offsets[one.topic] == nil {
			offsets[one.topic] = map[int32]kgo.EpochOffset{}
		}
		offsets[one.topic][one.partition] = kgo.EpochOffset{Epoch: -1, Offset: one.offset}
	}
	var failed error
	c.client.CommitOffsetsSync(ctx, offsets, func(
		_ *kgo.Client, _ *kmsg.OffsetCommitRequest, answer *kmsg.OffsetCommitResponse, err error,
	) {
		failed = err
		if err != nil {
			return
		}
		for _, topic := range answer.Topics {
			for _, partition := range topic.Partitions {
				failed = first(failed, kerr.ErrorForCode(partition.ErrorCode))
			}
		}
	})
	return failed
}

// A client for questions: the consumer's own, or one made for the first question.
func (c *consumer) asking() (*kadm.Client, error) {
	if c.client == nil {
		if err := c.open(); err != nil {
			return nil, err
		}
	}
	return kadm.NewClient(c.client), nil
}

func (c *consumer) committed(ctx context.Context, where place) (any, error) {
	admin, err := c.asking()
	if err != nil {
		return nil, err
	}
	offsets, err := admin.FetchOffsets(ctx, c.groupID)
	if err != nil {
		return nil, err
	}
	found, ok := offsets.Lookup(where.topic, where.partition)
	if !ok || found.At < 0 {
		return nil, found.Err
	}
	return found.At, found.Err
}

func (c *consumer) listed(ctx context.Context, method string, a arguments) (any, error) {
	admin, err := c.asking()
	if err != nil {
		return nil, err
	}
	var where place
	a.into(0, &where)
	var offsets kadm.ListedOffsets
	switch {
	case method == "offset_for_time":
		offsets, err = admin.ListOffsetsAfterMilli(ctx, a.number(1), where.topic)
	case c.committedOnly:
		offsets, err = admin.ListCommittedOffsets(ctx, where.topic)
	default:
		offsets, err = admin.ListEndOffsets(ctx, where.topic)
	}
	if err != nil {
		return nil, err
	}
	found, _ := offsets.Lookup(where.topic, where.partition)
	return found.Offset, found.Err
}
