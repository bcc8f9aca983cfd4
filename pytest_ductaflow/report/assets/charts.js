Ductaflow.charts = () => {};
