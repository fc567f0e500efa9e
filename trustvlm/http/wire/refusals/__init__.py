"""Why a request is refused, in words of JSON: one sentence for each fault."""
