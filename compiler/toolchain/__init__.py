"""From emitted C to an artifact: compile, train, link, append the weights, publish. Argument lists only, never a shell."""
