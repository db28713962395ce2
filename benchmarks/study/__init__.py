"""Studies: experiments described by YAML files, whose runs are stored and never made twice."""
