"""Where concrete things meet: settings, start-up, supervision, and the command line.

`catalogue.py` lists every command, event, view and query. `settings.py` says what an installation
is, `bootstrap.py` builds each process's parts, `runtime.py` puts them on Ray, `supervisor.py` keeps
a nats-server and the runtime alive. `cli.py` is the command `koseki`.
"""
