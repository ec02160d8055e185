"""Floor 4: the daemon's interface. `schema` says what can be asked, `methods` who answers, `serve` over what socket."""
