package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A produced record's fate, once its promise has run.
type sent struct {
	offset int64
	err    error
}

type producer struct {
	worker          *worker
	client          *kgo.Client
	transactionalID string
	promises        []chan sent
}

var codecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

func newProducer(w *worker, a arguments) (*producer, error) {
	options := []kgo.Opt{
		kgo.SeedBrokers(a.text(0)),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codecs[a.text(3)]),
		kgo.ProducerBatchMaxBytes(20_000_000),
		kgo.ProducerLinger(5 * time.Millisecond),
	}
	p := &producer{worker: w, transactionalID: a.text(1)}
	if p.transactionalID != "" {
		timeout := time.Duration(a.number(2)) * time.Millisecond
		options = append(options, kgo.TransactionalID(p.transactionalID), kgo.TransactionTimeout(timeout))
	}
	var err error
	p.client, err = kgo.NewClient(options...)
	return p, err
}

func (p *producer) run(ctx context.Context, method string, a arguments) (any, error) {
	switch method {
	case "init_transactions":
		_, _, err := p.client.ProducerID(ctx)
		return nil, err
	case "begin":
		p.promises = nil
		return nil, p.client.BeginTransaction()
	case "send":
		p.send(a)
	case "flush":
		return p.flush(ctx)
	case "send_offsets":
		var positions []position
		a.into(0, &positions)
		return nil, p.sendOffsets(ctx, positions, p.worker.groups[int(a.number(1))])
	case "commit":
		if _, err := p.flush(ctx); err != nil {
			return nil, err
		}
		return nil, p.client.EndTransaction(ctx, kgo.TryCommit)
	case "abort":
		if err := p.client.AbortBufferedRecords(ctx); err != nil {
			return nil, err
		}
		return nil, p.client.EndTransaction(ctx, kgo.TryAbort)
	case "close":
		p.client.Close()
	default:
		return nil, fmt.Errorf("a producer has no method %s", method)
	}
	return nil, nil
}

func (p *producer) send(a arguments) {
	var headers []header
	a.into(4, &headers)
	var timestampMs *int64
	a.into(5, &timestampMs)
	record := &kgo.Record{
		Topic:     a.text(0),
		Value:     a.bytes(1),
		Partition: int32(a.number(2)),
		Key:       a.bytes(3),
	}
	for _, h := range headers {
		record.Headers = append(record.Headers, kgo.RecordHeader{Key: h.name, Value: h.value})
	}
	if timestampMs != nil {
		record.Timestamp = time.UnixMilli(*timestampMs)
	}
	promise := make(chan sent, 1)
	p.promises = append(p.promises, promise)
	p.client.Produce(context.Background(), record, func(record *kgo.Record, err error) {
		promise <- sent{record.Offset, err}
	})
}

// The offsets of what was sent since the last flush, or the first error that a record met.
func (p *producer) flush(ctx context.Context) ([]int64, error) {
	if err := p.client.Flush(ctx); err != nil {
		return nil, err
	}
	promises := p.promises
	p.promises = nil
	offsets := []int64{}
	for _, promise := range promises {
		fate := <-promise
		if fate.err != nil {
			return nil, fate.err
		}
		offsets = append(offsets, fate.offset)
	}
	return offsets, nil
}

// franz-go commits a transaction's offsets only inside its GroupTransactSession, where consumer and
// producer are one client. Here they are two, so the requests are made by hand, as version 1 of
// transactions has them.
func (p *producer) sendOffsets(ctx context.Context, positions []position, g group) error {
	id, epoch, err := p.client.ProducerID(ctx)
	if err != nil {
		return err
	}
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = p.transactionalID, id, epoch, g.id
	added, err := retried(ctx, func() (int16, error) {
		answer, err := add.RequestWith(ctx, p.client)
		if err != nil {
			return 0, err
		}
		return answer.ErrorCode, nil
	})
	if err != nil || added != 0 {
		return first(err, kerr.ErrorForCode(added))
	}
	commit := kmsg.NewPtrTxnOffsetCommitRequest()
	commit.TransactionalID, commit.ProducerID, commit.ProducerEpoch = p.transactionalID, id, epoch
	commit.Group, commit.MemberID, commit.Generation = g.id, g.member, g.generation
	for _, one := range positions {
		partition := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		partition.Partition, partition.Offset = one.partition, one.offset
		topic := kmsg.NewTxnOffsetCommitRequestTopic()
		topic.Topic = one.topic
		topic.Partitions = append(topic.Partitions, partition)
		commit.Topics = append(commit.Topics, topic)
	}
	committed, err := retried(ctx, func() (int16, error) {
		answer, err := commit.RequestWith(ctx, p.client)
		if err != nil {
			return 0, err
		}
		for _, topic := range answer.Topics {
			for _, partition := range topic.Partitions {
				if partition.ErrorCode != 0 {
					return partition.ErrorCode, nil
				}
			}
		}
		return 0, nil
	})
	return first(err, kerr.ErrorForCode(committed))
}

// Ask again while the last transaction is still being ended.
func retried(ctx context.Context, ask func() (int16, error)) (int16, error) {
	for {
		code, err := ask()
		if err != nil || code != kerr.ConcurrentTransactions.Code {
			return code, err
		}
		select {
		case <-ctx.Done():
			return code, nil
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
