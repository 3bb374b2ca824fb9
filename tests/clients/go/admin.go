package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

type admin struct {
	client *kadm.Client
}

func newAdmin(a arguments) (*admin, error) {
	// Look again soon whether a deleted topic is gone.
	quick := kgo.MetadataMinAge(100 * time.Millisecond)
	client, err := kadm.NewOptClient(kgo.SeedBrokers(a.text(0)), quick)
	return &admin{client}, err
}

func (d *admin) run(ctx context.Context, method string, a arguments) (any, error) {
	switch method {
	case "create_topic":
		config := map[string]*string{}
		a.into(2, &config)
		answer, err := d.client.CreateTopic(ctx, int32(a.number(1)), -1, config, a.text(0))
		return nil, first(err, answer.Err)
	case "delete_topic":
		answer, err := d.client.DeleteTopic(ctx, a.text(0))
		return nil, first(err, answer.Err)
	case "partitions":
		topics, err := d.client.ListTopics(ctx, a.text(0))
		if err != nil {
			return nil, err
		}
		found := topics[a.text(0)]
		if errors.Is(found.Err, kerr.UnknownTopicOrPartition) {
			return nil, nil
		}
		return len(found.Partitions), found.Err
	case "topic_config":
		configs, err := d.client.DescribeTopicConfigs(ctx, a.text(0))
		if err != nil {
			return nil, err
		}
		found := map[string]string{}
		for _, entry := range configs[0].Configs {
			found[entry.Key] = entry.MaybeValue()
		}
		return found, configs[0].Err
	case "close":
		d.client.Close()
	default:
		return nil, fmt.Errorf("an admin has no method %s", method)
	}
	return nil, nil
}
