"""Forms of an exported potential: scripted modules, traced graphs, and compiled packages."""
