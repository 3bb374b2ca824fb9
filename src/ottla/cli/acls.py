"""`ottla acls`: list, add, remove."""

from dataclasses import asdict
from typing import Annotated

import typer

from ottla.cli.cluster import Mistake, on_a_cluster
from ottla.cli.output import Output, OutputOption, YesOption, ask, print_done, print_rows
from ottla.client import security as client
from ottla.client.access import Access
from ottla.client.cluster import Cluster

app = typer.Typer(help="Access rules: who may do what.", no_args_is_help=True)

Principal = Annotated[
    str | None, typer.Option("--principal", metavar="User:NAME", help="Who; User:* is everybody.")
]
Host = Annotated[str | None, typer.Option("--host", help="From which address; * is any.")]
Operations = Annotated[
    list[str] | None,
    typer.Option("--operation", metavar="OPERATION", help=f"What: {', '.join(client.OPERATIONS)}."),
]
Topic = Annotated[str | None, typer.Option("--topic", help="On this topic; * is all.")]
Group = Annotated[str | None, typer.Option("--group", help="On this group; * is all.")]
TransactionalId = Annotated[
    str | None, typer.Option("--transactional-id", help="On this transactional id; * is all.")
]
OnCluster = Annotated[bool, typer.Option("--cluster", help="On the cluster itself.")]
Prefixed = Annotated[
    bool, typer.Option("--prefixed", help="On all names that begin with the one given.")
]
Deny = Annotated[bool, typer.Option("--deny", help="A rule that forbids; it wins over others.")]


@app.command("list")
@on_a_cluster
def list_(
    access: Access,
    principal: Principal = None,
    topic: Topic = None,
    group: Group = None,
    transactional_id: TransactionalId = None,
    cluster: OnCluster = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the rules, all or those for a principal or a resource.

    \b
    Examples:
      ottla acls list
      ottla acls list --principal User:alice
    """
    resource, name = _resource(topic, group, transactional_id, cluster, None)
    with Cluster(access) as connected:
        found = client.list_acls(
            connected, client.AclFilter(principal=principal, resource=resource, name=name)
        )
    print_rows(
        output,
        ["principal", "permission", "operation", "resource", "name", "pattern", "host"],
        [_row(each) for each in found],
        narrow=7,
        none="there are no such rules",
    )


def _row(acl: client.Acl) -> tuple[str, ...]:
    return (
        *(acl.principal, acl.permission, acl.operation, acl.resource, acl.name),
        *(acl.pattern, acl.host),
    )


@app.command()
@on_a_cluster
def add(
    access: Access,
    principal: Principal = None,
    operations: Operations = None,
    topic: Topic = None,
    group: Group = None,
    transactional_id: TransactionalId = None,
    cluster: OnCluster = False,
    prefixed: Prefixed = False,
    deny: Deny = False,
    host: Host = "*",
    output: OutputOption = Output.TABLE,
) -> None:
    """Add a rule for each operation. A rule that is there already is no error.

    \b
    Examples:
      ottla acls add --principal User:alice --operation read --topic orders
      ottla acls add --principal User:app --operation all --topic app- --prefixed
    """
    resource, name = _resource(topic, group, transactional_id, cluster, "one")
    if principal is None or not operations or resource is None or name is None:
        raise Mistake("a rule needs --principal and --operation")
    _check_operations(operations)
    acls = [
        client.Acl(
            principal,
            host or "*",
            each,
            "deny" if deny else "allow",
            resource,
            name,
            "prefixed" if prefixed else "literal",
        )
        for each in operations
    ]
    with Cluster(access) as connected:
        client.add_acls(connected, acls)
    for each in acls:
        print_done(output, f"added: {_text(each)}", asdict(each))


@app.command()
@on_a_cluster
def remove(
    access: Access,
    principal: Principal = None,
    operations: Operations = None,
    topic: Topic = None,
    group: Group = None,
    transactional_id: TransactionalId = None,
    cluster: OnCluster = False,
    host: Host = None,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Remove the rules that match all that is given. Shows them, and asks.

    \b
    Examples:
      ottla acls remove --principal User:alice
      ottla acls remove --principal User:alice --operation read --topic orders --yes
    """
    resource, name = _resource(topic, group, transactional_id, cluster, None)
    if principal is None and resource is None:
        raise Mistake("say whose rules, or on what: --principal, --topic, --group, ...")
    _check_operations(operations or [])
    filters = [
        client.AclFilter(
            principal=principal, host=host, operation=each, resource=resource, name=name
        )
        for each in (operations or [None])  # type: ignore[list-item]
    ]
    with Cluster(access) as connected:
        found = [acl for each in filters for acl in client.list_acls(connected, each)]
        if found:
            ask([f"remove: {_text(each)}" for each in found], yes=yes)
            found = [acl for each in filters for acl in client.remove_acls(connected, each)]
    if not found:
        typer.echo("there are no such rules", err=True)
    for each in found:
        print_done(output, f"removed: {_text(each)}", asdict(each))


def _resource(
    topic: str | None,
    group: str | None,
    transactional_id: str | None,
    cluster: bool,
    needed: str | None,
) -> tuple[str | None, str | None]:
    given = [
        each
        for each in (
            ("topic", topic),
            ("group", group),
            ("transactional-id", transactional_id),
            ("cluster", client.CLUSTER_NAME if cluster else None),
        )
        if each[1] is not None
    ]
    if len(given) > 1 or (needed and not given):
        raise Mistake("name one of --topic, --group, --transactional-id, --cluster")
    return given[0] if given else (None, None)


def _check_operations(operations: list[str]) -> None:
    for each in operations:
        if each not in client.OPERATIONS:
            raise Mistake(f"{each!r} is none of {', '.join(client.OPERATIONS)}")


def _text(acl: client.Acl) -> str:
    pattern = " (and all that begins with it)" if acl.pattern == "prefixed" else ""
    return (
        f"{acl.permission} {acl.principal} from {acl.host} to {acl.operation} "
        f"{acl.resource} {acl.name}{pattern}"
    )
