"""Forms of an exported potential: scripted, traced as a graph, compiled."""
