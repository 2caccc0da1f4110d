module dspy-operator.io/tests/cluster/pause

go 1.26
