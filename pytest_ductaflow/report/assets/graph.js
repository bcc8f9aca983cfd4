Ductaflow.graph = () => {};
